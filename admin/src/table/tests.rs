use super::*;
use proptest::prelude::*;

fn table(heads: &[&'static str], rows: &[&[&str]]) -> String {
    let mut table = Table::new(heads);
    for row in rows {
        table.row(row.iter().map(|cell| (*cell).to_owned()));
    }
    table.to_string()
}

fn longest(text: &str) -> usize {
    text.lines().map(length).max().unwrap_or(0)
}

#[test]
fn a_table_fits_and_wraps_its_last_column() {
    let words = "word ".repeat(30);
    let text = table(&["NAME", ">N", "WHAT"], &[&["a", "1", &words], &["long-name", "1000", ""]]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(longest(&text) <= WIDTH, "{text}");
    assert_eq!(lines[0], "NAME          N  WHAT");
    assert!(lines[1].starts_with("a             1  word word"), "{text}");
    assert!(lines[2].starts_with("                 word"), "{text}");
    assert_eq!(*lines.last().unwrap(), "long-name  1000");
}

/// Widths of columns, and the line and first character of each.
#[test]
fn columns_go_on_below_where_a_line_is_full() {
    type Case = (&'static [usize], &'static [(usize, usize)]);
    let cases: &[Case] = &[
        (&[10, 10], &[(0, 0), (0, 12)]),
        // 49 + 2 + 49 fit, one more does not.
        (&[49, 49], &[(0, 0), (0, 51)]),
        (&[49, 50], &[(0, 0), (1, 4)]),
        (
            &[30, 30, 30, 30, 30, 30, 30],
            &[(0, 0), (0, 32), (0, 64), (1, 4), (1, 36), (1, 68), (2, 4)],
        ),
        // Without the indent where it would be too wide, and alone where it is too wide by itself.
        (&[20, 98, 20], &[(0, 0), (1, 2), (2, 4)]),
        (&[20, 130, 20], &[(0, 0), (1, 0), (2, 4)]),
        (&[130, 20], &[(0, 0), (1, 4)]),
    ];
    for (widths, expected) in cases {
        let mut table = Table::new(&["H"; 7][..widths.len()]);
        table.row(widths.iter().map(|&width| "x".repeat(width)));
        let places: Vec<_> = table.places().iter().map(|place| (place.line, place.start)).collect();
        assert_eq!(&places, expected, "{widths:?}");
    }
}

#[test]
fn ipv6_endpoints_fit() {
    let endpoint = "[2001:db8:113::1234:5678]:45394";
    let text = table(
        &["POLICY", "PROTO", "INTERNAL", "EXTERNAL", "REMOTE", "STATE", ">IDLE"],
        &[
            &["payments", "TCP", endpoint, endpoint, endpoint, "established", "12s"],
            &["payments", "UDP", "10.244.1.10:4000", "203.0.113.16:4000", "-", "", "3m04s"],
        ],
    );
    let expected = "\
POLICY    PROTO  INTERNAL                         EXTERNAL
    REMOTE                           STATE         IDLE
payments  TCP    [2001:db8:113::1234:5678]:45394  [2001:db8:113::1234:5678]:45394
    [2001:db8:113::1234:5678]:45394  established    12s
payments  UDP    10.244.1.10:4000                 203.0.113.16:4000
    -                                             3m04s
";
    assert_eq!(text, expected);
}

#[test]
fn what_a_node_redirects_fits() {
    let text = table(
        &["SOURCE IP", "DESTINATION CIDR", "EGRESS IP", "GATEWAY", "POLICY", "PACKETS", "BYTES"],
        &[
            &[
                "10.244.1.10",
                "0.0.0.0/0",
                "203.0.113.16",
                "gw-a (192.0.2.10)",
                "payments",
                "7",
                "5180",
            ],
            &[
                "fd00:244:1::10",
                "2001:db8:100::/48",
                "2001:db8:113::10",
                "gw-a (2001:db8:2::10)",
                "payments",
                "1234567",
                "1234567890",
            ],
        ],
    );
    let expected = "\
SOURCE IP       DESTINATION CIDR   EGRESS IP         GATEWAY                POLICY    PACKETS
    BYTES
10.244.1.10     0.0.0.0/0          203.0.113.16      gw-a (192.0.2.10)      payments  7
    5180
fd00:244:1::10  2001:db8:100::/48  2001:db8:113::10  gw-a (2001:db8:2::10)  payments  1234567
    1234567890
";
    assert_eq!(text, expected);
}

#[test]
fn a_last_column_that_has_too_little_room_gets_its_own_line() {
    let words = "word ".repeat(30);
    let text = table(&["A", "B", "WHAT"], &[&["x".repeat(40).as_str(), &"y".repeat(40), &words]]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "    WHAT");
    assert!(lines[3].starts_with("    word") && length(lines[3]) > 90, "{text}");
    assert!(longest(&text) <= WIDTH, "{text}");
}

/// A cell that no other is part of: its marks are of its column and row.
fn cell(column: usize, row: usize, width: usize, has_words: bool) -> String {
    let mark = format!("<{column}.{row}>");
    let text = mark.repeat(width.div_ceil(mark.len()).max(1));
    if has_words { text.replace("><", "> <") } else { text }
}

proptest! {
    #[test]
    fn whatever_the_widths_nothing_is_lost_and_columns_stand_below_each_other(
        widths in prop::collection::vec(prop::collection::vec(0_usize..130, 1..5), 1..9),
        numbers in any::<u16>(),
    ) {
        const HEADS: [[&str; 9]; 2] = [
            ["HA", "HB", "HC", "HD", "HE", "HF", "HG", "HH", "HI"],
            [">HA", ">HB", ">HC", ">HD", ">HE", ">HF", ">HG", ">HH", ">HI"],
        ];
        let columns = widths.len();
        let is_number = |column: usize| numbers >> column & 1 == 1;
        let heads: Vec<&'static str> =
            (0..columns).map(|column| HEADS[usize::from(is_number(column))][column]).collect();
        let rows = widths.iter().map(Vec::len).min().unwrap_or(0);
        let cells: Vec<Vec<String>> = (0..rows)
            .map(|row| {
                let cell = |column| cell(column, row, widths[column][row], column == columns - 1);
                (0..columns).map(cell).collect()
            })
            .collect();
        let mut table = Table::new(&heads);
        for row in &cells {
            table.row(row.clone());
        }
        let text = table.to_string();

        // A last cell is broken into words; every other stands there as it is.
        let words = cells.iter().flatten().flat_map(|cell| cell.split(' '));
        let widest = words.map(length).max().unwrap_or(0);
        prop_assert!(longest(&text) <= WIDTH.max(widest), "{text}");
        for row in &cells {
            for cell in &row[..columns - 1] {
                // Not as the beginning of a longer one of the same marks.
                let found = text.split_whitespace().filter(|word| word == cell).count();
                prop_assert_eq!(found, 1, "{}\n{}", cell, text);
            }
            let marks = row[columns - 1].split(' ').count();
            let mark = row[columns - 1].split(' ').next().unwrap_or_default();
            prop_assert_eq!(text.matches(mark).count(), marks, "{}\n{}", mark, text);
        }
        // The first or the last character of a column's cells is at one place in all lines.
        for column in 0..columns {
            let head = heads[column].trim_start_matches('>');
            let of_row = |row: usize| format!("<{column}.{row}>");
            let edge = |what: &str| {
                let line = text.lines().find(|line| line.contains(what))?;
                let line_end = |at: usize| line[at..].find(' ').map_or(line.len(), |end| at + end);
                let at = line.find(what)?;
                Some(if is_number(column) { line_end(at) } else { at })
            };
            // A head has no `<`, so it is found in the heads.
            let expected = edge(head);
            let is_wrapped = column == columns - 1;
            // What is wider than the terminal stands out at the right.
            let fits = |row: usize| !is_number(column) || !is_wrapped && length(&cells[row][column]) <= WIDTH;
            for row in (0..rows).filter(|&row| fits(row)) {
                prop_assert_eq!(edge(&of_row(row)), expected, "{}\n{}", of_row(row), text);
            }
        }
    }
}
