# shellcheck shell=bash
# The node's network namespace and the link between it and the machine.

netns_exists() { [[ -e /run/netns/$NETNS ]] && ip -n "$NETNS" link show lo >/dev/null 2>&1; }

link_is_up() { ip link show "$HOST_LINK" >/dev/null 2>&1 && ip -n "$NETNS" link show eth0 >/dev/null 2>&1; }

make_network() {
  if ! netns_exists; then
    rm -f "/run/netns/$NETNS"
    # So that `down` knows whether the folder and its mount are the cluster's own.
    [[ -d /run/netns ]] || touch "$RUN/made-run-netns"
    ip netns add "$NETNS"
    say "made the network namespace $NETNS"
  fi
  if ! link_is_up; then
    ip link delete "$HOST_LINK" 2>/dev/null || true
    ip link add "$HOST_LINK" type veth peer name eth0 netns "$NETNS"
    ip address add "$HOST_IP/$NODE_PREFIX" dev "$HOST_LINK"
    ip link set "$HOST_LINK" up
    ip -n "$NETNS" link set lo up
    ip -n "$NETNS" address add "$NODE_IP/$NODE_PREFIX" dev eth0
    ip -n "$NETNS" link set eth0 up
    # Answers to the machine's own addresses go back over the link; nothing goes further.
    ip -n "$NETNS" route replace default via "$HOST_IP"
    ip route replace "$POD_RANGE" via "$NODE_IP" dev "$HOST_LINK"
    ip route replace "$SERVICE_RANGE" via "$NODE_IP" dev "$HOST_LINK"
    in_node sysctl -qw net.ipv4.ip_forward=1
  fi
}

delete_network() {
  ip link delete "$HOST_LINK" 2>/dev/null || true
  if [[ -e /run/netns/$NETNS ]]; then ip netns delete "$NETNS" 2>/dev/null || rm -f "/run/netns/$NETNS"; fi
  if [[ -e $RUN/made-run-netns && -d /run/netns && -z $(ls -A /run/netns) ]]; then
    umount /run/netns 2>/dev/null || true
    rmdir /run/netns 2>/dev/null || true
  fi
}
