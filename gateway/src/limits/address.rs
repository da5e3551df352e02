//! The address that a request comes from: that of the connection, or what a trusted proxy says of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: IpAddr,
    length: u8,
}

/// The text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no range of addresses: expected one like 10.0.0.0/8 or fd00::/8")]
pub struct RangeError;

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (network, length) = text.split_once('/').ok_or(RangeError)?;
        let network: IpAddr = network.parse().map_err(|_| RangeError)?;
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 =
            if digits { length.parse().map_err(|_| RangeError)? } else { return Err(RangeError) };
        let most = if network.is_ipv4() { 32 } else { 128 };
        if length > most { Err(RangeError) } else { Ok(Self { network, length }) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl Range {
    /// Whether an address lies in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The address of a request's client: the right-most that no trusted proxy has, as each of them adds on the right the
/// address that it was called from. What stands further left the client may have written itself.
pub(crate) fn of_client(peer: IpAddr, headers: &HeaderMap, trusted: &[Range]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.holds(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let entries: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        // One that is no text ends the chain: nothing left of it can be told.
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .collect();
    for entry in entries.iter().rev() {
        let Some(address) = read(entry) else {
            break;
        };
        client = address;
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone, or with a port.
fn read(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let plain = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let alone = plain.parse::<IpAddr>().ok();
    let address = alone.or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

/// What of an address is limited as one: of IPv6 the network that a single customer has.
pub(crate) fn customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        of_client(peer.parse().unwrap(), &headers, &ranges(trusted)).to_string()
    }

    #[test]
    fn a_range_holds_what_shares_its_first_bits() {
        let holds =
            |range: &str, address: &str| range.parse::<Range>().unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3/32", "10.1.2.3") && !holds("10.1.2.3/32", "10.1.2.2"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe00::1") && holds("::/0", "1::"));
        for text in
            ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "a/8", "10.0.0.0/+8", "10.0.0.0/"]
        {
            assert_eq!(text.parse::<Range>(), Err(RangeError), "{text}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_as_far_as_they_can_know() {
        let proxies = ["10.0.0.0/8"];
        // Nobody is trusted, or this one is not.
        assert_eq!(client("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["198.51.100.1"], &proxies), "203.0.113.9");
        // The client wrote the left ones itself.
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.2"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"], &proxies), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["nonsense"], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &proxies), "10.0.0.3");
        // With ports, in brackets, and as IPv4 inside IPv6.
        assert_eq!(client("10.0.0.1", &["198.51.100.1:4711"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:4711"], &proxies), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]"], &proxies), "2001:db8::1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"], &proxies), "198.51.100.1");
    }

    #[test]
    fn the_addresses_of_one_customer_count_as_one() {
        let of = |text: &str| customer(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever a client writes, an untrusted peer is itself, and behind a proxy the last entry alone decides.
        #[test]
        fn a_client_can_not_choose_its_address(written in "[ -~]{0,60}", last: [u8; 4]) {
            let Ok(value) = HeaderValue::from_str(&written) else { return Ok(()) };
            let last = IpAddr::from(last);
            let trusted = ranges(&["192.0.2.1/32"]);
            prop_assume!(!trusted[0].holds(last));
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED_FOR, value);
            prop_assert_eq!(of_client(last, &headers, &trusted), last);
            headers.append(FORWARDED_FOR, HeaderValue::from_str(&last.to_string()).unwrap());
            prop_assert_eq!(of_client("192.0.2.1".parse().unwrap(), &headers, &trusted), last);
        }

        #[test]
        fn a_range_reads_back_as_it_was_written(bits: u128, length in 0_u8..=128, text in ".{0,40}") {
            let range = Range { network: Ipv6Addr::from_bits(bits).into(), length };
            prop_assert_eq!(range.to_string().parse::<Range>(), Ok(range));
            let _ = text.parse::<Range>();
        }
    }
}
