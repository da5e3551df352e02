//! HPKE (RFC 9180), base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! The primitives are aws-lc-rs's. What is here is how the RFC puts them together, checked against its test vectors
//! and against another implementation.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey as Agreement, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

/// Bytes of a key of either kind, of a shared secret and of an encapsulated key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes that sealing adds to a text.
const TAG_BYTES: usize = 16;
const KEM_SUITE: [u8; 5] = *b"KEM\x00\x20";

/// Why sealing or opening failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// The operating system gave no randomness.
    #[error("the system gives no randomness")]
    Random,
    /// The bytes are no X25519 key that can be used.
    #[error("the key is no usable X25519 key: 32 bytes are expected")]
    Key,
    /// The text was sealed to another key or for another context, or it was changed.
    #[error("what was sealed can't be opened with this key in this context")]
    Open,
}

/// A workspace's private key.
pub struct PrivateKey {
    agreement: Agreement,
    public: [u8; KEY_BYTES],
}

/// Which AEAD. The second is there for the RFC's own test vector.
#[derive(Clone, Copy)]
pub(super) enum Aead {
    Aes256,
    #[cfg_attr(not(test), expect(dead_code, reason = "the RFC has no test vector of X25519 with AES-256"))]
    Aes128,
}

impl Aead {
    const fn id(self) -> u8 {
        match self {
            Self::Aes256 => 2,
            Self::Aes128 => 1,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256 => &AES_256_GCM,
            Self::Aes128 => &AES_128_GCM,
        }
    }

    /// KEM, KDF and AEAD by their numbers.
    const fn suite(self) -> [u8; 10] {
        [b'H', b'P', b'K', b'E', 0, 0x20, 0, 1, 0, self.id()]
    }
}

impl PrivateKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, HpkeError> {
        let mut bytes = [0_u8; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| HpkeError::Random)?;
        Self::from_bytes(&bytes)
    }

    /// The key of 32 bytes that were kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let agreement = Agreement::from_private_key(&X25519, bytes).map_err(|_| HpkeError::Key)?;
        let public = agreement.compute_public_key().map_err(|_| HpkeError::Key)?;
        let public = public.as_ref().try_into().map_err(|_| HpkeError::Key)?;
        Ok(Self { agreement, public })
    }

    /// Its 32 bytes, to be kept where nobody else reads.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HpkeError> {
        use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
        let bytes: Curve25519SeedBin<'_> = self.agreement.as_be_bytes().map_err(|_| HpkeError::Key)?;
        Ok(bytes.as_ref().to_vec())
    }

    /// The public half.
    pub const fn public(&self) -> &[u8; KEY_BYTES] {
        &self.public
    }
}

/// Seals a text to a public key and returns the encapsulated key and the sealed text.
pub(super) fn seal(
    recipient: &[u8; KEY_BYTES],
    info: &[u8],
    aad: &[u8],
    text: &[u8],
) -> Result<([u8; KEY_BYTES], Vec<u8>), HpkeError> {
    seal_with(&PrivateKey::generate()?, Aead::Aes256, recipient, info, aad, text)
}

/// Opens what [`seal`] made.
pub(super) fn open(
    recipient: &PrivateKey,
    encapsulated: &[u8],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    open_with(Aead::Aes256, recipient, encapsulated, info, aad, sealed)
}

fn seal_with(
    ephemeral: &PrivateKey,
    cipher: Aead,
    recipient: &[u8; KEY_BYTES],
    info: &[u8],
    aad: &[u8],
    text: &[u8],
) -> Result<([u8; KEY_BYTES], Vec<u8>), HpkeError> {
    let shared = shared_secret(ephemeral, recipient, &ephemeral.public, recipient)?;
    let (key, nonce) = schedule(cipher, &shared, info)?;
    let mut sealed = Vec::with_capacity(text.len() + TAG_BYTES);
    sealed.extend_from_slice(text);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).map_err(|_| HpkeError::Open)?;
    Ok((ephemeral.public, sealed))
}

fn open_with(
    cipher: Aead,
    recipient: &PrivateKey,
    encapsulated: &[u8],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let encapsulated: &[u8; KEY_BYTES] = encapsulated.try_into().map_err(|_| HpkeError::Open)?;
    let shared = shared_secret(recipient, encapsulated, encapsulated, &recipient.public)?;
    let (key, nonce) = schedule(cipher, &shared, info)?;
    let mut text = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(aad), &mut text).map_err(|_| HpkeError::Open)?.len();
    text.truncate(length);
    Ok(text)
}

/// `ExtractAndExpand` of RFC 9180, section 4.1. The exchange itself refuses a result of zeros.
fn shared_secret(
    own: &PrivateKey,
    peer: &[u8; KEY_BYTES],
    encapsulated: &[u8; KEY_BYTES],
    recipient: &[u8; KEY_BYTES],
) -> Result<[u8; 32], HpkeError> {
    let peer = UnparsedPublicKey::new(&X25519, peer);
    let context = [encapsulated.as_slice(), recipient].concat();
    agree(&own.agreement, peer, HpkeError::Open, |secret| {
        let key = extract(&KEM_SUITE, b"", b"eae_prk", secret);
        Ok(expand(&KEM_SUITE, &key, b"shared_secret", &context, 32))
    })
}

/// `KeySchedule` of RFC 9180, section 5.1, in base mode, for the first and only text.
fn schedule(cipher: Aead, shared: &[u8; 32], info: &[u8]) -> Result<(LessSafeKey, Nonce), HpkeError> {
    let suite = cipher.suite();
    let mut context = vec![0_u8];
    context.extend_from_slice(&extract(&suite, b"", b"psk_id_hash", b""));
    context.extend_from_slice(&extract(&suite, b"", b"info_hash", info));
    let secret = extract(&suite, shared, b"secret", b"");
    let length = cipher.algorithm().key_len();
    let key = expand(&suite, &secret, b"key", &context, u8::try_from(length).map_err(|_| HpkeError::Key)?);
    let nonce = expand(&suite, &secret, b"base_nonce", &context, 12);
    let key = UnboundKey::new(cipher.algorithm(), &key[..length]).map_err(|_| HpkeError::Key)?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).map_err(|_| HpkeError::Key)?;
    Ok((LessSafeKey::new(key), nonce))
}

/// `LabeledExtract`: HKDF's extract is an HMAC.
fn extract(suite: &[u8], salt: &[u8], label: &[u8], secret: &[u8]) -> [u8; 32] {
    hmac(salt, &[b"HPKE-v1", suite, label, secret])
}

/// `LabeledExpand` to at most 32 bytes, which is the first block of HKDF's expand.
fn expand(suite: &[u8], key: &[u8; 32], label: &[u8], info: &[u8], length: u8) -> [u8; 32] {
    hmac(key, &[&[0, length], b"HPKE-v1", suite, label, info, &[1]])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let tag = sign(&Key::new(HMAC_SHA256, key), &parts.concat());
    let mut bytes = [0_u8; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn key(hex: &str) -> PrivateKey {
        PrivateKey::from_bytes(&bytes(hex)).unwrap()
    }

    const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
    const TEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";

    /// RFC 9180, appendix A.1.1.
    #[test]
    fn it_seals_and_opens_as_the_rfc_says() {
        let ephemeral = key("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736");
        let recipient = key("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
        assert_eq!(
            recipient.public[..],
            bytes("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
        );
        let shared =
            shared_secret(&ephemeral, &recipient.public, &ephemeral.public, &recipient.public).unwrap();
        assert_eq!(shared[..], bytes("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"));
        let (aad, info, text) = (bytes("436f756e742d30"), bytes(INFO), bytes(TEXT));
        let (encapsulated, sealed) =
            seal_with(&ephemeral, Aead::Aes128, &recipient.public, &info, &aad, &text).unwrap();
        assert_eq!(
            encapsulated[..],
            bytes("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
        );
        let expected =
            "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a";
        assert_eq!(sealed, bytes(expected));
        assert_eq!(open_with(Aead::Aes128, &recipient, &encapsulated, &info, &aad, &sealed).unwrap(), text);
    }

    /// Sealed with AES-256-GCM by OpenSSL, through Python's `cryptography`.
    #[test]
    fn it_opens_what_another_implementation_sealed() {
        let recipient = key("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
        let sealed = bytes(SEALED_BY_OPENSSL);
        let text = open(&recipient, &sealed[..32], &bytes(INFO), b"", &sealed[32..]).unwrap();
        assert_eq!(text, bytes(TEXT));
    }

    const SEALED_BY_OPENSSL: &str = "239de772e9b1767bf4a43a3e4324fa8f7cab80d7be011ca5f88fc629b5075d7e778ee1b48ff15eb70c4fa73903\
         61872e51a57f2819878928ba59c5fe9ac0dc9711e174c98a8774cc7a65b437ce";

    #[test]
    fn a_key_that_leads_to_a_secret_that_all_know_is_refused() {
        let recipient = PrivateKey::generate().unwrap();
        // Points of small order.
        for point in [[0_u8; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert_eq!(open(&recipient, &point, b"", b"", &[0; 32]), Err(HpkeError::Open));
            assert!(seal(&point, b"", b"", b"text").is_err());
        }
    }

    #[test]
    fn a_key_survives_being_kept() {
        let made = PrivateKey::generate().unwrap();
        let kept = PrivateKey::from_bytes(&made.to_bytes().unwrap()).unwrap();
        let (encapsulated, sealed) = seal(made.public(), b"info", b"", b"text").unwrap();
        assert_eq!(open(&kept, &encapsulated, b"info", b"", &sealed).unwrap(), b"text");
        assert!(PrivateKey::from_bytes(&[1; 31]).is_err());
    }

    proptest! {
        #[test]
        fn only_the_recipient_opens_and_only_what_was_sealed_in_its_context(
            text in proptest::collection::vec(any::<u8>(), 0..200),
            info in proptest::collection::vec(any::<u8>(), 0..80),
            change in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (recipient, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
            let (encapsulated, sealed) = seal(recipient.public(), &info, b"", &text).unwrap();
            prop_assert_eq!(open(&recipient, &encapsulated, &info, b"", &sealed).unwrap(), text);
            prop_assert!(open(&other, &encapsulated, &info, b"", &sealed).is_err());
            let foreign = [&info[..], b"x"].concat();
            prop_assert!(open(&recipient, &encapsulated, &foreign, b"", &sealed).is_err());
            prop_assert!(open(&recipient, &encapsulated, &info, b"x", &sealed).is_err());
            let mut whole = [&encapsulated[..], &sealed].concat();
            let at = change.index(whole.len());
            whole[at] ^= 1 << bit;
            // X25519 ignores the highest bit of a public key; HPKE binds it all the same.
            prop_assert!(open(&recipient, &whole[..32], &info, b"", &whole[32..]).is_err());
        }

        #[test]
        fn whatever_comes_is_refused_in_good_order(
            encapsulated in proptest::collection::vec(any::<u8>(), 0..40),
            sealed in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let recipient = PrivateKey::generate().unwrap();
            prop_assert!(open(&recipient, &encapsulated, b"", b"", &sealed).is_err());
        }
    }
}
