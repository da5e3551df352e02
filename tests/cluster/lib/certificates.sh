# shellcheck shell=bash
# The cluster's certificates, keys and kubeconfigs. All are made once, in the state folder.

make_ca() {
  [[ -f $PKI/$1.crt ]] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=dexorder-$1" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$PKI/$1.key" -out "$PKI/$1.crt" 2>/dev/null
}

# make_cert NAME CA SUBJECT [ALTERNATIVE NAMES]: a server certificate when it has names, a client's when not.
make_cert() {
  local name=$1 ca=$2 subject=$3 names=${4:-} usage=clientAuth
  [[ -f $PKI/$name.crt ]] && return
  [[ -n $names ]] && usage=serverAuth
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$subject" \
    -keyout "$PKI/$name.key" -out "$PKI/$name.csr" 2>/dev/null
  {
    echo "basicConstraints=critical,CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$usage"
    [[ -z $names ]] || echo "subjectAltName=$names"
  } >"$PKI/$name.ext"
  openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/$ca.crt" -CAkey "$PKI/$ca.key" -days 3650 \
    -extfile "$PKI/$name.ext" -out "$PKI/$name.crt" 2>/dev/null
  rm "$PKI/$name.csr" "$PKI/$name.ext"
}

# make_kubeconfig FILE CERTIFICATE NAMESPACE
make_kubeconfig() {
  [[ -f $1 && $1 -nt $PKI/$2.crt ]] && return
  cat >"$1.new" <<EOF
apiVersion: v1
kind: Config
clusters:
  - name: dexorder
    cluster:
      server: $API_URL
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $2
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$2.crt")
      client-key-data: $(base64 -w0 "$PKI/$2.key")
contexts:
  - name: dexorder
    context: {cluster: dexorder, user: $2, namespace: $3}
current-context: dexorder
EOF
  mv "$1.new" "$1"
}

make_certificates() (
  umask 077
  mkdir -p "$PKI"
  make_ca ca
  make_ca front-proxy-ca
  make_cert apiserver ca /CN=kube-apiserver \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$DOMAIN,DNS:localhost,IP:$API_SERVICE_IP,IP:$NODE_IP,IP:127.0.0.1"
  make_cert apiserver-kubelet-client ca /CN=kube-apiserver-kubelet-client
  make_cert front-proxy-client front-proxy-ca /CN=front-proxy-client
  # The first administrator: every other right is given by RBAC.
  make_cert admin ca /O=system:masters/CN=kubernetes-admin
  make_cert controller-manager ca /CN=system:kube-controller-manager
  make_cert scheduler ca /CN=system:kube-scheduler
  make_cert kube-proxy ca /CN=system:kube-proxy
  make_cert coredns ca /CN=dexorder:coredns
  make_cert provisioner ca /CN=dexorder:local-provisioner
  if [[ ! -f $PKI/service-account.pub ]]; then
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$PKI/service-account.key" 2>/dev/null
    openssl pkey -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub"
  fi
  local name
  for name in controller-manager scheduler kube-proxy coredns provisioner; do
    make_kubeconfig "$PKI/$name.kubeconfig" "$name" default
  done
  make_kubeconfig "$ADMIN_KUBECONFIG" admin "$NAMESPACE"
)

# The kubelet of the node that NODE names.
make_node_certificates() (
  umask 077
  make_cert "kubelet-server-$NODE" ca "/CN=$NODE" "DNS:$NODE,IP:$NODE_IP"
  make_cert "kubelet-$NODE" ca "/O=system:nodes/CN=system:node:$NODE"
  make_kubeconfig "$PKI/kubelet-$NODE.kubeconfig" "kubelet-$NODE" default
)
