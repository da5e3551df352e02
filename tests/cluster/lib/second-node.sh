# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the functions that use the node's names
# The second node: the same programs once more, in a namespace behind the first node's, with folders of its own.

SECOND_NODE=node-1
SECOND_NETNS=$NETNS-1
# Address of the first node on the link between the two.
SECOND_GATEWAY=10.210.1.1
SECOND_RANGE=10.210.1.0/24
SECOND_LINK=node1

second_node_exists() { [[ -e /run/netns/$SECOND_NETNS || -d $RUN/$SECOND_NODE ]]; }

# Lets the functions of a node work on the second one. For a subshell, or a command about that node alone.
use_second_node() {
  FIRST_NETNS=$NETNS
  FIRST_NODE_IP=$NODE_IP
  NODE=$SECOND_NODE
  NETNS=$SECOND_NETNS
  NODE_IP=10.210.1.2
  NODE_POD_RANGE=10.210.68.0/22
  CGROUP=$CGROUP/$NODE
  RUN=$RUN/$NODE
  PIDS=$RUN/pids
  CONTAINERD_SOCKET=$RUN/containerd.sock
  STATE=$STATE/$NODE
  CONF=$STATE/config
  LOGS=$STATE/logs
}

make_second_network() {
  if ! netns_exists; then
    rm -f "/run/netns/$NETNS"
    ip netns add "$NETNS"
  fi
  if ! ip -n "$NETNS" link show eth0 >/dev/null 2>&1; then
    ip -n "$FIRST_NETNS" link delete "$SECOND_LINK" 2>/dev/null || true
    ip -n "$FIRST_NETNS" link add "$SECOND_LINK" type veth peer name eth0 netns "$NETNS"
    ip -n "$FIRST_NETNS" address add "$SECOND_GATEWAY/24" dev "$SECOND_LINK"
    ip -n "$FIRST_NETNS" link set "$SECOND_LINK" up
    ip -n "$NETNS" link set lo up
    ip -n "$NETNS" address add "$NODE_IP/24" dev eth0
    ip -n "$NETNS" link set eth0 up
    ip -n "$NETNS" route replace default via "$SECOND_GATEWAY"
    in_node sysctl -qw net.ipv4.ip_forward=1
  fi
  ip -n "$FIRST_NETNS" route replace "$NODE_POD_RANGE" via "$NODE_IP" dev "$SECOND_LINK"
  ip route replace "$SECOND_RANGE" via "$FIRST_NODE_IP" dev "$HOST_LINK"
}

delete_second_network() {
  ip route delete "$SECOND_RANGE" 2>/dev/null || true
  if [[ -e /run/netns/$FIRST_NETNS ]]; then ip -n "$FIRST_NETNS" link delete "$SECOND_LINK" 2>/dev/null || true; fi
  if [[ -e /run/netns/$NETNS ]]; then ip netns delete "$NETNS" 2>/dev/null || rm -f "/run/netns/$NETNS"; fi
}

# Only what is meant for this node comes to it: its taint keeps away what does not ask for it.
render_second_config() {
  render_config
  printf 'registerWithTaints: [{key: %s, effect: NoSchedule}]\n' "dexorder.io/second-node" >>"$CONF/kubelet.yaml"
}

second_mounts() { awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($RUN|$STATE)/" | sort -ru; }

no_second_mounts() {
  local mount
  while read -r mount; do
    umount "$(printf '%b' "$mount")" 2>/dev/null || true
  done < <(second_mounts)
  [[ -z $(second_mounts) ]]
}

# As if its power had failed: nothing says goodbye, what was in memory is gone, the disk stays.
cut_power() {
  local name pid
  for name in kubelet containerd kube-proxy; do
    if pid=$(recorded_pid "$name"); then kill -KILL "$pid" 2>/dev/null || true; fi
    rm -f "$PIDS/$name"
  done
  wait_until 60 "the end of the processes of $NODE" no_strays
  wait_until 30 "unmounting the volumes of $NODE" no_second_mounts
  wait_until 30 "removing the control groups of $NODE" cgroups_are_deleted
  rm -rf --one-file-system "$RUN/containerd" "$RUN/cni"
}

# Everything of it on this machine.
end_second_node() {
  [[ -e /run/netns/$NETNS || -d $RUN || -d $STATE ]] || return 0
  cut_power
  delete_second_network
  rm -rf --one-file-system "$RUN" "$STATE"
}
