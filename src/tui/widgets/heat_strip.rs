//! The whole fleet in a few rows: a cell is a partition, grouped by host, rack and site. Where that
//! does not fit, a cell is the worst of a host, or of several hosts.

use crate::fleet::ShownState;
use crate::protocol::{HostView, Snapshot};
use crate::tui::field::{badness, partitions_of, worst_state};
use crate::tui::text::Pane;
use crate::tui::theme::Token;

/// What a cell stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    /// One partition.
    Partition,
    /// The worst of one host.
    Host,
    /// The worst of this many hosts of a site.
    Hosts(usize),
}

/// A row of the strip: what stands in front, and groups of cells with their labels.
struct Row<'a> {
    site: &'a str,
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    label: &'a str,
    /// Runs of cells; a gap is left between runs.
    runs: Vec<Vec<ShownState>>,
}

impl Group<'_> {
    fn width(&self) -> usize {
        let label = if self.label.is_empty() { 0 } else { self.label.chars().count() + 1 };
        label + self.runs.iter().map(|r| r.len() + 1).sum::<usize>() + 1
    }
}

/// How the strip is laid out at a width.
pub struct Strip<'a> {
    rows: Vec<Row<'a>>,
    grain: Grain,
    margin: usize,
}

/// The hosts of one rack of one site.
fn racks(snapshot: &Snapshot) -> Vec<(&str, &str, &[HostView])> {
    snapshot
        .hosts
        .chunk_by(|a, b| a.site == b.site && a.rack == b.rack)
        .map(|hosts| (hosts[0].site.as_str(), hosts[0].rack.as_str(), hosts))
        .collect()
}

/// The rack's name without the site's in front: `fra-r1` → `r1`.
fn short_rack<'a>(site: &str, rack: &'a str) -> &'a str {
    rack.strip_prefix(site)
        .and_then(|r| r.strip_prefix(['-', '/', '.']))
        .filter(|r| !r.is_empty())
        .unwrap_or(rack)
}

/// Lays the strip out in `width` columns and at most `most` rows.
pub fn lay_out(snapshot: &Snapshot, width: usize, most: usize) -> Strip<'_> {
    let racks = racks(snapshot);
    let longest = racks.iter().map(|(site, ..)| site.chars().count()).max().unwrap_or(0);
    let margin = longest.min(12) + 4;
    let room = width.saturating_sub(margin).max(1);
    for grain in [Grain::Partition, Grain::Host] {
        let cells: usize = match grain {
            Grain::Partition => snapshot.partitions.len(),
            _ => snapshot.hosts.len(),
        };
        // What cannot fit is not laid out at all: ten thousand cells are cheap to count.
        if cells > room * most {
            continue;
        }
        let groups = racks.iter().map(|(site, rack, hosts)| {
            let runs = match grain {
                Grain::Partition => {
                    hosts.iter().map(|h| partitions_of(snapshot, h).map(|p| p.shown).collect()).collect()
                }
                _ => vec![hosts.iter().filter_map(|h| worst_state(snapshot, h)).collect()],
            };
            (*site, Group { label: short_rack(site, rack), runs })
        });
        let rows = wrap(groups, room);
        if rows.len() <= most {
            return Strip { rows, grain, margin };
        }
    }
    let by_site: Vec<&[HostView]> = snapshot.hosts.chunk_by(|a, b| a.site == b.site).collect();
    let lines =
        |per_cell: usize| by_site.iter().map(|s| s.len().div_ceil(per_cell).div_ceil(room)).sum::<usize>();
    let mut per_cell = 2;
    while lines(per_cell) > most.max(by_site.len()) && per_cell < snapshot.hosts.len() {
        per_cell *= 2;
    }
    let mut rows = Vec::new();
    for hosts in by_site {
        let worst = |part: &[HostView]| {
            let states = part.iter().filter_map(|h| worst_state(snapshot, h));
            states.min_by_key(|s| badness(*s)).unwrap_or(ShownState::Unknown)
        };
        let cells: Vec<ShownState> = hosts.chunks(per_cell).map(worst).collect();
        for (i, run) in cells.chunks(room).enumerate() {
            let site = if i == 0 { hosts[0].site.as_str() } else { "" };
            rows.push(Row { site, groups: vec![Group { label: "", runs: vec![run.to_vec()] }] });
        }
    }
    rows.truncate(most);
    Strip { rows, grain: Grain::Hosts(per_cell), margin }
}

/// Fills rows with groups; a site begins on a new row, a group that is too wide is split by runs.
fn wrap<'a>(groups: impl Iterator<Item = (&'a str, Group<'a>)>, room: usize) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut present = "";
    let mut used = 0;
    let mut first = true;
    for (site, group) in groups {
        let width = group.width();
        if first || site != present {
            rows.push(Row { site, groups: Vec::new() });
            (present, used, first) = (site, 0, false);
        } else if used + width > room + 2 && used > 0 {
            rows.push(Row { site: "", groups: Vec::new() });
            used = 0;
        }
        if width <= room + 2 {
            used += width + 1;
            if let Some(row) = rows.last_mut() {
                row.groups.push(group);
            }
            continue;
        }
        let mut label = group.label;
        for run in group.runs {
            for part in run.chunks(room.saturating_sub(6).max(1)) {
                let piece = Group { label, runs: vec![part.to_vec()] };
                let width = piece.width();
                if used + width > room + 2 && used > 0 {
                    rows.push(Row { site: "", groups: Vec::new() });
                    used = 0;
                }
                used += width;
                label = "";
                if let Some(row) = rows.last_mut() {
                    row.groups.push(piece);
                }
            }
        }
    }
    rows
}

impl Strip<'_> {
    /// Rows that it takes.
    pub fn height(&self) -> u16 {
        self.rows.len() as u16
    }

    /// What a cell stands for, in words; empty where a cell is a partition.
    pub fn note(&self) -> String {
        match self.grain {
            Grain::Partition => String::new(),
            Grain::Host => "a cell is the worst of a host".to_string(),
            Grain::Hosts(n) => format!("a cell is the worst of {n} hosts"),
        }
    }

    /// Draws it from the first row of `pane` on.
    pub fn draw(&self, pane: &mut Pane<'_>) {
        for (y, row) in self.rows.iter().enumerate() {
            let y = y as u16;
            if !row.site.is_empty() {
                let end = pane.put_in(1, y, self.margin as u16 - 4, row.site, pane.look[Token::Title]);
                pane.put(end + 1, y, pane.look.glyphs.into, pane.look[Token::Faint]);
            }
            let mut x = self.margin as u16;
            for group in &row.groups {
                if !group.label.is_empty() {
                    x = pane.put(x, y, group.label, pane.look[Token::Dim]) + 1;
                }
                for run in &group.runs {
                    for state in run {
                        let (glyph, style) = pane.look.state(*state);
                        pane.cell(x, y, glyph, style);
                        x += 1;
                    }
                    x += 1;
                }
                x += 2;
            }
        }
    }
}
