# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this one
# The cluster of this machine's own, for `make up`.

prepare_machine() { tests/cluster/install; }

start_cluster() {
  tests/cluster/up
  CLUSTER_KUBECONFIG=$LOCAL/kubeconfig
  export KUBECONFIG=$CLUSTER_KUBECONFIG
}

load_images() { tests/cluster/load-image "$LOCAL"/images/{operator,gateway,sidecar,agent}.tar; }

# The node's address is reachable from this machine and from nowhere else.
gateway_settings() {
  GATEWAY_URL=http://10.210.0.2:30080
  # Only this machine reaches it, so whoever does may say where a request comes from. The cluster's DNS is no pod here.
  cat >"$LOCAL/service-values.yaml" <<'YAML'
gateway: {service: {type: NodePort, nodePort: 30080}, limits: {trustedProxies: ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12"]}}
networkPolicy: {dns: [{ipBlock: {cidr: 10.210.0.2/32}}]}
YAML
}
