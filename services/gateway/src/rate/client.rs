use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The part of an IPv6 address that is the client's network: within it a client can choose.
const NETWORK: u128 = !(u64::MAX as u128);

/// Who is counted. A proxy adds the address that it was called from to the end of
/// `X-Forwarded-For`, so of `trusted` proxies in a row the first one has written the entry that is
/// `trusted` from the end; whatever stands before it is the client's own invention. A request that
/// has no such entry did not come through all of them, and is known by its connection.
pub(super) fn client(peer: Option<IpAddr>, headers: &HeaderMap, trusted: usize) -> IpAddr {
    let forwarded = trusted.checked_sub(1).and_then(|behind| entry(headers, behind));
    network(forwarded.or(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// The entry with so many behind it. Several lines are one list (RFC 9110 section 5.3).
fn entry(headers: &HeaderMap, behind: usize) -> Option<IpAddr> {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    address(std::str::from_utf8(entries.nth(behind)?).ok()?.trim())
}

/// An address, which some proxies write with its port.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

    fn seen(lines: &[&str], trusted: usize) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        client(Some(PEER), &headers, trusted).to_string()
    }

    #[test]
    fn without_proxies_of_ours_the_connection_counts_alone() {
        assert_eq!(seen(&[], 0), "10.0.0.9");
        assert_eq!(seen(&["1.2.3.4", "5.6.7.8, 9.9.9.9"], 0), "10.0.0.9");
    }

    #[test]
    fn what_the_outermost_proxy_of_ours_wrote_is_the_client() {
        for (lines, trusted, expected) in [
            (&["203.0.113.7"][..], 1, "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7"], 1, "203.0.113.7"),
            (&["6.6.6.6", "203.0.113.7"], 1, "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7, 10.1.1.1"], 2, "203.0.113.7"),
            (&["6.6.6.6,203.0.113.7", "10.1.1.1"], 2, "203.0.113.7"),
            (&["nonsense, 203.0.113.7:51234"], 1, "203.0.113.7"),
            (&["[2001:db8:1:2:3:4:5:6]:443"], 1, "2001:db8:1:2::"),
        ] {
            assert_eq!(seen(lines, trusted), expected, "{lines:?} through {trusted}");
        }
    }

    #[test]
    fn what_did_not_come_through_all_proxies_is_known_by_its_connection() {
        for lines in [&[][..], &["203.0.113.7"], &["unknown, 10.1.1.1"], &[", 10.1.1.1"]] {
            assert_eq!(seen(lines, 2), "10.0.0.9", "{lines:?}");
        }
    }

    #[test]
    fn a_client_is_one_by_whichever_of_its_addresses_it_calls() {
        let known = |address: &str| client(address.parse().ok(), &HeaderMap::new(), 0).to_string();
        assert_eq!(known("2001:db8::1"), known("2001:db8::ffff:1"));
        assert_ne!(known("2001:db8::1"), known("2001:db8:0:1::1"));
        assert_eq!(known("::ffff:192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_changes_who_it_is(
            invented in proptest::collection::vec("[ -~]{0,60}", 0..4),
            address in any::<[u8; 4]>(),
            proxies in proptest::collection::vec(any::<[u8; 4]>(), 0..4),
            own_line in any::<bool>(),
        ) {
            // Each proxy adds whom it was called by; the last one calls us.
            let real = IpAddr::from(address);
            let chain: Vec<IpAddr> =
                std::iter::once(real).chain(proxies.iter().copied().map(IpAddr::from)).collect();
            let mut lines = invented;
            for caller in &chain[..proxies.len()] {
                match lines.last_mut().filter(|_| !own_line) {
                    Some(line) => *line = format!("{line}, {caller}"),
                    None => lines.push(caller.to_string()),
                }
            }
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            prop_assert_eq!(client(chain.last().copied(), &headers, proxies.len()), real);
        }
    }
}
