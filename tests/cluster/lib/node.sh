# shellcheck shell=bash
# containerd, the kubelet, kube-proxy and the cluster's DNS on the node.

start_containerd() {
  start containerd "$BIN/containerd" --config "$CONF/containerd.toml"
}

containerd_is_ready() { ctr_images ls -q; }

start_kubelet() {
  start kubelet "$BIN/kubelet" --config "$CONF/kubelet.yaml" --root-dir "$STATE/kubelet" \
    --kubeconfig "$PKI/kubelet-$NODE.kubeconfig" --hostname-override "$NODE" --node-ip "$NODE_IP"
}

start_kube_proxy() { start kube-proxy "$BIN/kube-proxy" --config "$CONF/kube-proxy.yaml"; }

start_coredns() { start coredns "$BIN/coredns" -conf "$CONF/Corefile"; }

start_provisioner() {
  start local-provisioner "$BIN/local-provisioner" -kubeconfig "$PKI/provisioner.kubeconfig" -root "$VOLUMES"
}

node_is_ready() { [[ $(kctl get node "$NODE" --request-timeout 2s -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]; }

# The name is asked at the Service's address, so that kube-proxy is proven as well.
dns_works() { in_node "$BIN/dnscheck" "$DNS_IP:53" "kubernetes.default.svc.$DOMAIN"; }

# The kubelet's own answer: the node's condition in the API stays true for a while after the kubelet's end.
kubelet_is_healthy() { [[ $(in_node curl -fsS --max-time 2 http://127.0.0.1:10248/healthz) == ok ]]; }

# After a start the kubelet learns of its pods from the API server; until then it refuses exec and logs for them.
kubelet_knows_its_pods() {
  local wanted known
  wanted=$(kctl get pods --all-namespaces --field-selector "spec.nodeName=$NODE" -o 'jsonpath={range .items[*]}{.metadata.uid}{"\n"}{end}')
  known=$(kctl get --raw "/api/v1/nodes/$NODE/proxy/pods" | jq -r '.items[]?.metadata.uid')
  [[ -z $(comm -23 <(sort <<<"$wanted") <(sort <<<"$known")) ]]
}

wait_for_node() {
  wait_until 30 "the kubelet's health" kubelet_is_healthy
  wait_until 90 "the node's readiness" node_is_ready
  wait_until 30 "the kubelet's knowledge of its pods" kubelet_knows_its_pods
}

load_pause_image() {
  wait_until 30 "containerd's readiness" containerd_is_ready
  load_archive "$PAUSE_ARCHIVE" quiet
}

apply_addons() {
  local applied=$STATE/addons.hash hash
  hash=$(sha256sum "$CONF/addons.yaml")
  [[ -f $applied && $(<"$applied") == "$hash" ]] && return
  say "applying the cluster's own resources"
  kctl apply --server-side --force-conflicts --field-manager dexorder-cluster -f "$CONF/addons.yaml" >/dev/null
  echo "$hash" >"$applied"
}
