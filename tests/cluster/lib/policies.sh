# shellcheck shell=bash
# kube-router as a firewall alone: it turns NetworkPolicies into rules of iptables in the node's network namespace.

POLICIES_HEALTH=20244

start_policies() {
  start kube-router "$BIN/kube-router" --kubeconfig "$ADMIN_KUBECONFIG" --hostname-override "$NODE" \
    --run-firewall=true --run-router=false --run-service-proxy=false --run-loadbalancer=false \
    --iptables-sync-period 10s --health-port "$POLICIES_HEALTH" --enable-ipv6=false
}

# It has written the rules for what there is, and goes on to do so.
policies_are_enforced() {
  is_running kube-router && in_node iptables -w -S | grep -q 'KUBE-POD-FW-' &&
    in_node curl -fsS --max-time 2 "http://127.0.0.1:$POLICIES_HEALTH/healthz"
}

# Its rules outlive it. What it writes is told by the names of its chains and sets.
stop_policies() {
  stop kube-router
  in_node iptables-save | grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)' | in_node iptables-restore
  in_node ipset list -name 2>/dev/null | { grep -E '^KUBE-|^kube-router' || true; } | while read -r set; do
    in_node ipset destroy "$set"
  done
}
