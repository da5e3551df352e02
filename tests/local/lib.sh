# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this one
# What the commands of the local set-up share. Sourced from the project's root folder.

LOCAL=$PWD/.local
TOKEN_KEY=$LOCAL/token-key.pem
ISSUER=https://local.dexorder.test
# The kind cluster of `make up CLUSTER=kind`.
KIND_NAME=dexorder
export PATH=$LOCAL/bin:$LOCAL/toolchain/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

say() { printf '%s\n' "up: $*"; }

die() {
  printf '%s\n' "up: error: $*" >&2
  exit 1
}

base64url() { basenc --base64url --wrap=0 | tr -d '='; }

# The key of the local issuer: it stands in for an OpenID provider on a developer's machine.
make_token_key() {
  [[ -s $TOKEN_KEY ]] && return
  mkdir -p "$LOCAL"
  (umask 077 && openssl genpkey -algorithm ed25519 -out "$TOKEN_KEY.new")
  mv "$TOKEN_KEY.new" "$TOKEN_KEY"
}

# The 32 bytes of its public half: the end of the DER form (RFC 8410).
token_public_key() { openssl pkey -in "$TOKEN_KEY" -pubout -outform DER | tail -c 32; }

token_key_id() { token_public_key | sha256sum | cut -c 1-16; }

# The public half as a JWKS (RFC 8037).
token_jwks() {
  printf '{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"%s","x":"%s"}]}' \
    "$(token_key_id)" "$(token_public_key | base64url)"
}
