//! What the parser promises about answers that are whole, cut, quoted, short, or nonsense.

use super::*;
use proptest::prelude::*;

#[derive(Default)]
struct Seen {
    names: Vec<String>,
    samples: Vec<(String, i64, f64)>,
    records: Vec<String>,
}

impl Rows for Seen {
    fn series(&mut self, row: &Row<'_>) -> Option<u32> {
        let name =
            format!("{}/{}", row.get("host").unwrap_or_default(), row.get("_field").unwrap_or_default());
        self.names.push(name);
        Some(self.names.len() as u32 - 1)
    }
    fn sample(&mut self, series: u32, at: Timestamp, value: f64) {
        self.samples.push((self.names[series as usize].clone(), at.0, value));
    }
    fn record(&mut self, row: &Row<'_>) {
        self.records.push(row.get("name").unwrap_or_default().into_owned());
    }
}

fn parse_in(text: &str, size: usize) -> (Seen, Result<Counts, CsvError>) {
    let mut seen = Seen::default();
    let mut parser = Parser::new();
    for piece in text.as_bytes().chunks(size.max(1)) {
        if let Err(error) = parser.feed(piece, &mut seen) {
            return (seen, Err(error));
        }
    }
    let counts = parser.finish(&mut seen);
    (seen, counts)
}

const ANSWER: &str = "#datatype,string,long,dateTime:RFC3339,double,string,string\r\n\
    #group,false,false,false,false,true,true\r\n\
    #default,_result,,,,,\r\n\
    ,result,table,_time,_value,_field,host\r\n\
    ,,0,2023-11-14T22:13:20Z,1.5,usage,a\r\n\
    ,,0,2023-11-14T22:13:30Z,,usage,a\r\n\
    ,,0,2023-11-14T22:14:00Z,-2e3,usage,a\r\n\
    ,,1,2023-11-14T22:13:20Z,NaN,usage,\"b, \"\"x\"\"\ny\"\r\n\
    ,,1,2023-11-14T22:13:30.25Z,7,usage,\"b, \"\"x\"\"\ny\"\r\n\
    \r\n\
    #datatype,string,long,dateTime:RFC3339,long,string\r\n\
    #group,false,false,false,false,true\r\n\
    #default,_result,,,,load\r\n\
    ,result,table,_time,_value,_field\r\n\
    ,,2,2023-11-14T23:13:20+01:00,9,\r\n\
    ,,2,2023-11-14T23:1\r\n";

#[test]
fn tables_gaps_quotes_defaults_and_short_rows_are_understood_however_the_answer_is_cut() {
    for size in 1..200 {
        let (seen, counts) = parse_in(ANSWER, size);
        let counts = counts.unwrap();
        assert_eq!((counts.points, counts.rejected), (6, 1), "pieces of {size}");
        let at = |i: usize| (seen.samples[i].0.as_str(), seen.samples[i].1);
        assert_eq!(at(0), ("a/usage", 1_700_000_000_000));
        assert!(seen.samples[1].2.is_nan() && seen.samples[3].2.is_nan());
        assert_eq!(seen.samples[2], ("a/usage".into(), 1_700_000_040_000, -2000.0));
        assert_eq!(seen.samples[4], ("b, \"x\"\ny/usage".into(), 1_700_000_010_250, 7.0));
        assert_eq!(seen.samples[5], ("/load".into(), 1_700_000_000_000, 9.0));
    }
}

#[test]
fn an_error_table_is_the_servers_word_also_behind_good_rows() {
    let error = "\r\n#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,out of memory,897\r\n";
    let (_, result) = parse_in(error, 7);
    assert_eq!(result, Err(CsvError::Server("out of memory".into())));
    let (seen, result) = parse_in(&format!("{ANSWER}{error}"), 64);
    assert_eq!(result, Err(CsvError::Server("out of memory".into())));
    assert_eq!(seen.samples.len(), 6);
}

#[test]
fn what_is_not_csv_is_named_with_its_place() {
    let (_, result) = parse_in("<html><body>Bad Gateway</body></html>\n", 9);
    let Err(CsvError::Nonsense { place, detail }) = result else { panic!("{result:?}") };
    assert!(place.starts_with("line 1"), "{place}");
    assert!(detail.contains("<html>"), "{detail}");
}

#[test]
fn an_answer_that_ends_in_the_middle_of_a_line_is_nonsense_and_makes_no_point() {
    let rows = ",result,table,_time,_value,_field,host\r\n,,0,2023-11-14T22:13:20Z,1.5,usage,web-12\r\n";
    let whole = rows.len();
    let text = format!("{rows},,0,2023-11-14T22:13:30Z,25.5,usage,web-12\r\n");
    for cut in whole + 1..text.len() {
        let (seen, result) = parse_in(&text[..cut], 11);
        assert!(matches!(result, Err(CsvError::Nonsense { .. })), "{:?}: {result:?}", &text[whole..cut]);
        assert_eq!(seen.samples, [("web-12/usage".to_string(), 1_700_000_000_000, 1.5)]);
    }
    assert_eq!(parse_in(&text, 11).0.samples.len(), 2);
}

#[test]
fn a_day_that_does_not_exist_is_no_time() {
    for text in
        ["2023-02-29T00:00:00Z", "2023-04-31T00:00:00Z", "2023-01-01T24:00:00Z", "2023-13-01T00:00:00Z"]
    {
        assert_eq!(parse_time(text.as_bytes()), None, "{text}");
    }
    assert_eq!(parse_time(b"2024-02-29T00:00:00Z"), Some(Timestamp(1_709_164_800_000)));
}

#[test]
fn tables_without_a_value_come_as_records() {
    let (seen, counts) = parse_in(",result,table,name\r\n,,0,telegraf\r\n,,0,own\r\n\r\n", 5);
    assert_eq!(seen.records, ["telegraf", "own"]);
    assert_eq!(counts.unwrap().rejected, 0);
}

proptest! {
    #[test]
    fn nothing_that_a_server_says_makes_the_parser_panic(
        text in "([,#\"\r\n0-9a-zTZ:.+-]|#datatype|#default|_time|_value|error|result|2023-11-14T22:13:20Z|,){0,200}",
        size in 1usize..50,
    ) {
        let _ = parse_in(&text, size);
    }

    #[test]
    fn bytes_never_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut parser = Parser::new();
        let mut seen = Seen::default();
        let _ = parser.feed(ANSWER.as_bytes(), &mut seen);
        let _ = parser.feed(&bytes, &mut seen);
        let _ = parser.finish(&mut seen);
    }

    #[test]
    fn the_quick_way_reads_what_the_slow_way_reads(
        values in proptest::collection::vec((0i64..4_000_000_000, any::<f64>()), 1..50),
        size in 1usize..300,
    ) {
        let mut text = String::from(",result,table,_time,_value,_field,host\r\n");
        for (s, value) in &values {
            let time = jiff::Timestamp::from_second(*s).unwrap();
            text.push_str(&format!(",,0,{time},{value:?},f,h\r\n"));
        }
        let (seen, counts) = parse_in(&text, size);
        prop_assert_eq!(counts.unwrap().points, values.len() as u64);
        for ((_, at, got), (s, value)) in seen.samples.iter().zip(&values) {
            prop_assert_eq!(*at, s * 1000);
            prop_assert!(got == value || got.is_nan() && value.is_nan());
        }
    }

    #[test]
    fn a_cut_or_damaged_answer_yields_no_point_that_was_not_there(
        hosts in 1usize..4,
        steps in 1i64..6,
        damage in proptest::collection::vec((0usize..2000, any::<u8>()), 0..3),
        cut in 0usize..2000,
        size in 1usize..300,
    ) {
        let mut text = String::from(",result,table,_time,_value,_field,host\r\n");
        for h in 0..hosts {
            for step in 0..steps {
                let time = jiff::Timestamp::from_second(1_700_000_000 + step * 10).unwrap();
                text.push_str(&format!(",,{h},{time},{step}.5,f,host-{h}{h}\r\n"));
            }
        }
        let (whole, _) = parse_in(&text, 4096);
        let (some, result) = parse_in(&text[..cut.min(text.len())], size);
        // A prefix of the points, in order; whoever reads is told where a line was cut.
        prop_assert!(some.samples.len() <= whole.samples.len());
        for (got, was) in some.samples.iter().zip(&whole.samples) {
            prop_assert_eq!(got, was);
        }
        if result.is_ok() && cut < text.len() {
            prop_assert!(cut == 0 || text[..cut].ends_with('\n') || !text[..cut].contains('\n'));
        }
        // Damaged bytes: never a panic, never more rows than lines.
        let mut bytes = text.clone().into_bytes();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let (mut parser, mut seen) = (Parser::new(), Seen::default());
        let fed: Result<(), CsvError> = bytes.chunks(size).try_for_each(|piece| parser.feed(piece, &mut seen));
        if fed.is_ok() {
            let _ = parser.finish(&mut seen);
        }
        prop_assert!(seen.samples.len() <= bytes.iter().filter(|b| **b == b'\n').count());
    }
}
