# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this one
# A kind cluster, for `make up CLUSTER=kind`. Needs kind, kubectl, helm and a container engine.

prepare_machine() {
  local tool
  for tool in kind kubectl helm; do
    command -v "$tool" >/dev/null || die "there is no $tool: install it, or use CLUSTER=local"
  done
}

start_cluster() {
  CLUSTER_KUBECONFIG=$LOCAL/kubeconfig-kind
  export KUBECONFIG=$CLUSTER_KUBECONFIG
  if ! kind get clusters 2>/dev/null | grep -qx "$KIND_NAME"; then
    printf '%s\n' 'kind: Cluster' 'apiVersion: kind.x-k8s.io/v1alpha4' 'nodes:' '  - role: control-plane' \
      '    extraPortMappings: [{containerPort: 30080, hostPort: 30080, listenAddress: "127.0.0.1"}]' |
      kind create cluster --name "$KIND_NAME" --kubeconfig "$KUBECONFIG" --config -
  fi
  kind export kubeconfig --name "$KIND_NAME" --kubeconfig "$KUBECONFIG"
  kubectl config set-context --current --namespace dexorder >/dev/null
}

load_images() {
  local name
  for name in operator gateway sidecar agent; do
    kind load image-archive "$LOCAL/images/$name.tar" --name "$KIND_NAME"
  done
}

gateway_settings() {
  GATEWAY_URL=http://127.0.0.1:30080
  printf 'gateway: {service: {type: NodePort, nodePort: 30080}}\n' >"$LOCAL/service-values.yaml"
}
