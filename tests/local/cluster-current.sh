# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this one
# The cluster of kubectl's current context, for `make up CLUSTER=current`.
# IMAGE_REGISTRY names the registry that its nodes pull from, GATEWAY_URL the address at which users reach the gateway.

prepare_machine() {
  command -v kubectl >/dev/null || die "there is no kubectl: install it and choose a context"
  [[ ${IMAGE_REGISTRY:-} ]] || die "IMAGE_REGISTRY is empty: name a registry that the cluster's nodes can pull from"
  [[ ${GATEWAY_URL:-} ]] || die "GATEWAY_URL is empty: name the address at which users will reach the gateway"
  kubectl get --raw /readyz --request-timeout 10s >/dev/null ||
    die "the current kubectl context does not answer: see 'kubectl config get-contexts'"
  tests/cluster/install builds
  command -v helm >/dev/null || tests/cluster/build helm
}

start_cluster() { CLUSTER_KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config}; }

load_images() { images/push; }

gateway_settings() { printf '{}\n' >"$LOCAL/service-values.yaml"; }
