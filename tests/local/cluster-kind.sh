# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this one
# A kind cluster, for `make up CLUSTER=kind`. Needs a container engine; builds kind, kubectl and helm where they are missing.

container_engine_runs() {
  local engine
  for engine in docker podman nerdctl; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

prepare_machine() {
  local tool
  container_engine_runs || die "kind needs a container engine, and none answers here: start Docker or Podman, or use CLUSTER=local, which needs none"
  tests/cluster/install builds
  for tool in kind kubectl helm; do
    command -v "$tool" >/dev/null || tests/cluster/build "$tool"
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
  # Only this machine reaches it, so whoever does may say where a request comes from.
  printf 'gateway: {service: {type: NodePort, nodePort: 30080}, limits: {trustedProxies: ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12"]}}\n' \
    >"$LOCAL/service-values.yaml"
}
