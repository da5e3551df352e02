# shellcheck shell=bash
# Starting and stopping the cluster's processes. Each has a record in PIDS: its id, the time it was
# started (so that another process with the same id is never taken for it) and what it was started with.

# The start time of a process, in ticks since the machine's start; a zombie counts as gone.
start_time() {
  local stat
  local -a fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The program's name may hold spaces: read what follows the last bracket.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] && echo "${fields[19]}"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

recorded_pid() {
  local pid started boot
  [[ -f $PIDS/$1 ]] || return 1
  read -r pid started boot _ <"$PIDS/$1"
  [[ $boot == "$(boot_id)" && $(start_time "$pid") == "$started" ]] && echo "$pid"
}

is_running() { recorded_pid "$1" >/dev/null; }

# What a process is started with: its arguments, its program and its files. A change restarts it.
signature() {
  local program=$1 file
  {
    printf '%s\0' "$@"
    stat -Lc '%s %Y' "$program"
    for file in "$CONF"/*; do
      if [[ " $* " == *"$file"* ]]; then cat "$file"; fi
    done
  } | sha256sum | cut -d' ' -f1
}

# start NAME PROGRAM ARGUMENT...: starts it in the node's network unless it runs with the same signature.
start() {
  local name=$1 wanted pid
  shift
  wanted=$(signature "$@")
  if pid=$(recorded_pid "$name"); then
    [[ $(awk '{ print $4 }' "$PIDS/$name") == "$wanted" ]] && return
    say "restarting $name: its program or its settings changed"
    stop "$name"
  fi
  say "starting $name"
  mkdir -p "$LOGS" "$PIDS"
  # The pid is the program's own: setsid and nsenter both replace themselves.
  # No descriptor of the caller stays open: something may wait for its end.
  PATH=$BIN:$PATH setsid nsenter --net="/run/netns/$NETNS" -- "$@" \
    >>"$LOGS/$name.log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
  pid=$!
  disown "$pid"
  echo "$pid $(start_time "$pid") $(boot_id) $wanted" >"$PIDS/$name"
}

pid_is_gone() { ! start_time "$1" >/dev/null; }

# stop NAME [SECONDS]: asks the process to end, and makes it after the time given.
stop() {
  local name=$1 limit=${2:-20} pid end
  if pid=$(recorded_pid "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    end=$((SECONDS + limit))
    until pid_is_gone "$pid"; do
      ((SECONDS < end)) || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  fi
  rm -f "$PIDS/$name"
}
