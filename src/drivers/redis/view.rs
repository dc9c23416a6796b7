//! What one node of a cluster says about all of them (`CLUSTER NODES`), and what several such views
//! say together. Pure: text in, facts out.

use std::collections::BTreeMap;

/// Number of hash slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Slots `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SlotRange {
    pub(super) first: u16,
    pub(super) last: u16,
}

/// What a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Master,
    /// A replica of the node with that id.
    ReplicaOf(String),
}

/// Whether others think that a node is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    Alive,
    /// The asked node alone cannot reach it (`fail?`).
    Suspected,
    /// A majority agreed that it failed (`fail`).
    Failed,
}

/// One line of `CLUSTER NODES`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) id: String,
    /// `address:port`.
    pub(super) address: String,
    /// The announced host name, where there is one.
    pub(super) hostname: Option<String>,
    pub(super) role: Role,
    pub(super) health: Health,
    /// The node that was asked.
    pub(super) myself: bool,
    /// Configuration epoch: the greater claim to a slot wins.
    pub(super) epoch: u64,
    pub(super) slots: Vec<SlotRange>,
    /// Slots in the middle of a legacy move, as written by the node: `[93->-id]`.
    pub(super) open: Vec<String>,
}

impl Node {
    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|r| (r.first..=r.last).contains(&slot))
    }

    pub(super) fn lowest_slot(&self) -> Option<u16> {
        self.slots.iter().map(|r| r.first).min()
    }

    pub(super) fn slot_count(&self) -> u32 {
        self.slots.iter().map(|r| u32::from(r.last - r.first) + 1).sum()
    }

    pub(super) fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    /// [`text_of`] its slots.
    pub(super) fn slots_text(&self) -> String {
        text_of(&self.slots)
    }

    /// The part of the address before the port.
    pub(super) fn ip(&self) -> &str {
        self.address.rsplit_once(':').map_or(self.address.as_str(), |(ip, _)| ip)
    }

    /// The part of the address after the last colon.
    pub(super) fn port(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

/// `0-5460 9000`, as people write slots.
pub(super) fn text_of(slots: &[SlotRange]) -> String {
    let ranges: Vec<String> = slots
        .iter()
        .map(|r| if r.first == r.last { r.first.to_string() } else { format!("{}-{}", r.first, r.last) })
        .collect();
    ranges.join(" ")
}

/// All nodes, as one of them sees them; sorted by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    pub(super) nodes: Vec<Node>,
}

impl View {
    /// Reads the answer of `CLUSTER NODES`; `asked` is the address of the node that gave it, which
    /// may not know its own. Nodes without an address and nodes still shaking hands are left out.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub(super) fn parse(text: &str, asked: &str) -> Result<View, String> {
        let mut nodes = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            if let Some(node) = parse_line(line, asked)? {
                nodes.push(node);
            }
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(View { nodes })
    }

    /// The node that gave the view.
    pub(super) fn asked(&self) -> Option<&Node> {
        self.nodes.iter().find(|n| n.myself)
    }

    pub(super) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.id == id)
    }

    pub(super) fn owner_of(&self, slot: u16) -> Option<&Node> {
        self.nodes.iter().find(|n| n.is_master() && n.owns(slot))
    }

    pub(super) fn replicas_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |n| matches!(&n.role, Role::ReplicaOf(m) if m == id))
    }

    /// Masters that own slots: those who vote.
    pub(super) fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.is_master() && !n.slots.is_empty())
    }
}

fn parse_line(line: &str, asked: &str) -> Result<Option<Node>, String> {
    let mut fields = line.split_ascii_whitespace();
    let mut next = |what: &str| fields.next().ok_or_else(|| format!("no {what} in the line {line:?}"));
    let id = next("node id")?.to_string();
    let endpoint = next("address")?;
    let flags: Vec<&str> = next("flags")?.split(',').collect();
    let master = next("master")?;
    let (_ping, _pong) = (next("ping")?, next("pong")?);
    let epoch = next("epoch")?.parse().map_err(|_| format!("the epoch is not a number in {line:?}"))?;
    let _link = next("link state")?;
    if flags.contains(&"noaddr") || flags.contains(&"handshake") {
        return Ok(None);
    }
    let mut names = endpoint.split(',');
    let bus = names.next().unwrap_or_default();
    let address = bus.split('@').next().unwrap_or_default();
    let address = if address.starts_with(':') { asked } else { address };
    let hostname = names.next().filter(|h| !h.is_empty() && !h.contains('=')).map(str::to_string);
    let (mut slots, mut open) = (Vec::new(), Vec::new());
    for field in fields {
        if field.starts_with('[') {
            open.push(field.to_string());
            continue;
        }
        let (first, last) = field.split_once('-').unwrap_or((field, field));
        let slot = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|s| *s < SLOTS)
                .ok_or_else(|| format!("the slot {text:?} is not a number below {SLOTS} in {line:?}"))
        };
        slots.push(SlotRange { first: slot(first)?, last: slot(last)? });
    }
    if slots.iter().any(|r| r.first > r.last) {
        return Err(format!("a slot range goes backwards in {line:?}"));
    }
    slots.sort();
    let health = if flags.contains(&"fail") {
        Health::Failed
    } else if flags.contains(&"fail?") {
        Health::Suspected
    } else {
        Health::Alive
    };
    let role = if flags.contains(&"slave") { Role::ReplicaOf(master.to_string()) } else { Role::Master };
    Ok(Some(Node {
        id,
        address: address.to_string(),
        hostname,
        role,
        health,
        myself: flags.contains(&"myself"),
        epoch,
        slots,
        open,
    }))
}

/// Slot of a key: CRC16 (XMODEM) of the hash tag, or of the whole key, modulo 16,384
/// (Redis Cluster specification, "Key distribution model").
pub(super) fn slot_of_key(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tagged.unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

/// What each byte does to the checksum.
const CRC16: [u16; 256] = {
    let (mut table, mut byte) = ([0u16; 256], 0);
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// `name:value` lines of `INFO`, all sections together.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    pub(super) fn parse(text: &str) -> Info {
        let pairs = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.trim_end().split_once(':'))
            .map(|(k, v)| (k.to_string(), v.to_string()));
        Info(pairs.collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The parts of `redis_version`; empty where it does not say.
    pub(super) fn version(&self) -> Vec<u32> {
        let text = self.text("redis_version").unwrap_or_default();
        text.split('.').map_while(|part| part.parse().ok()).collect()
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn whole(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Calls of the commands for which `count` holds, from `cmdstat_NAME:calls=…`.
    pub(super) fn calls(&self, count: impl Fn(&str) -> bool) -> u64 {
        self.0
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("cmdstat_")?, v)))
            .filter(|(name, _)| count(name))
            .filter_map(|(_, v)| v.split(',').find_map(|f| f.strip_prefix("calls="))?.parse::<u64>().ok())
            .sum()
    }

    /// Keys of all databases, from `db0:keys=…`.
    pub(super) fn keys(&self) -> u64 {
        self.of_databases("keys=")
    }

    /// Keys with a time to live, from `db0:…,expires=…`; `None` where there are keys and nothing is
    /// said about it.
    pub(super) fn expiring(&self) -> Option<u64> {
        let said = self.0.iter().filter(|(k, _)| is_database(k)).all(|(_, v)| v.contains(",expires="));
        said.then(|| self.of_databases("expires="))
    }

    fn of_databases(&self, name: &str) -> u64 {
        self.0
            .iter()
            .filter(|(k, _)| is_database(k))
            .filter_map(|(_, v)| v.split(',').find_map(|f| f.strip_prefix(name))?.parse::<u64>().ok())
            .sum()
    }
}

fn is_database(name: &str) -> bool {
    name.strip_prefix("db").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.4:30004@31004,node4 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.2:30002@31002 master - 0 1426238316232 2 connected 5461-10922 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f 127.0.0.3:30003@31003,,shard-id=abc master,fail - 0 1426238318243 3 disconnected 10923-16383
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001 myself,master - 0 0 1 connected 0-5460 5462
aaaa :0@0 master,noaddr - 0 0 0 disconnected
";

    #[test]
    fn a_view_holds_roles_health_slots_and_open_slots() {
        let view = View::parse(NODES, "127.0.0.1:30001").unwrap();
        assert_eq!(view.nodes.len(), 4, "a node without address is left out");
        let me = view.owner_of(0).unwrap();
        assert_eq!((me.address.as_str(), me.slot_count()), ("127.0.0.1:30001", 5462));
        assert_eq!(me.slots_text(), "0-5460 5462");
        let replica = view.replicas_of(&me.id).next().unwrap();
        assert_eq!(replica.hostname.as_deref(), Some("node4"));
        assert_eq!(view.owner_of(16_000).unwrap().health, Health::Failed);
        assert_eq!(view.owner_of(16_000).unwrap().hostname, None);
        assert_eq!(view.owner_of(6000).unwrap().open.len(), 1);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        assert!(View::parse("abc", "x").unwrap_err().contains("abc"));
        let far = "a 127.0.0.1:1@2 master - 0 0 1 connected 99999";
        assert!(View::parse(far, "x").unwrap_err().contains("99999"));
    }

    #[test]
    fn slots_of_keys_follow_the_specification() {
        assert_eq!(slot_of_key(b"123456789"), 0x31C3);
        assert_eq!(slot_of_key(b"{user1000}.following"), slot_of_key(b"{user1000}.followers"));
        assert_eq!(slot_of_key(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of_key(b"foo"), 12182);
    }

    #[test]
    fn info_counts_calls_and_keys() {
        let info = Info::parse(
            "# Stats\r\nused_memory:12\r\ndb0:keys=7,expires=1,avg_ttl=0\r\ncmdstat_set:calls=3,usec=1\r\ncmdstat_get:calls=9\r\n",
        );
        assert_eq!((info.keys(), info.calls(|n| n == "set"), info.whole("used_memory")), (7, 3, Some(12)));
        assert_eq!(info.expiring(), Some(1));
        assert_eq!(Info::parse("# Keyspace\r\n").expiring(), Some(0));
        assert_eq!(Info::parse("db0:keys=7\r\n").expiring(), None);
    }
}
