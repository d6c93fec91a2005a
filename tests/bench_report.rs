//! What the benches print and draw: see `benches/common`.

#![allow(dead_code, reason = "the benches use all of it")]
#![allow(clippy::unwrap_used, reason = "shared with the benches, which end if they cannot run")]

#[path = "../benches/common/chart.rs"]
mod chart;
#[path = "../benches/common/table.rs"]
mod table;

use chart::{Bar, Bars, Lines, Section, Series, Tone, grid};
use table::{Table, digits, median, rate};

fn two_sections() -> Table {
    let mut table = Table::new(&["", "a", "long name"]);
    table.section("one");
    table.row(["x".into(), "1".into(), "2".into()]);
    table.section("the second section");
    table.row(["y | z".into(), "100".into(), "3".into()]);
    table
}

#[test]
fn columns_are_aligned() {
    let expected = "
one                   a  long name
x                     1          2

the second section    a  long name
y | z               100          3
";
    assert_eq!(two_sections().text(), expected);
}

#[test]
fn markdown_has_a_table_for_each_section() {
    let expected = r"## one

|  | a | long name |
|---|---:|---:|
| x | 1 | 2 |

## the second section

|  | a | long name |
|---|---:|---:|
| y \| z | 100 | 3 |

";
    assert_eq!(two_sections().markdown(), expected);
}

#[test]
fn numbers_have_three_digits() {
    assert_eq!(
        [0.0456, 1.0, 9.994, 9.996, 99.96, 1234.5].map(digits),
        ["0.05", "1.00", "9.99", "10.0", "100", "1234"]
    );
    assert_eq!(
        [7.0, 999.4, 999.6, 803_795.0, 999_600.0, 1_306_330.0].map(rate),
        ["7.00", "999", "1.00 k", "804 k", "1.00 M", "1.31 M"]
    );
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
}

#[test]
fn grids_have_round_steps() {
    for (most, step) in [(6.0, 1.0), (8.3, 2.0), (2500.0, 500.0), (0.3, 0.05)] {
        assert!((grid(most) - step).abs() < 1e-9, "{most}: {}", grid(most));
    }
}

/// Returns the value of an attribute of each element that begins with `element`.
fn attributes(svg: &str, element: &str, name: &str) -> Vec<f64> {
    let elements = svg.lines().filter(|line| line.starts_with(element));
    let value =
        |line: &str| line.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
    elements.filter_map(value).collect()
}

fn bars(from_one: bool, values: &[f64]) -> String {
    let bar = |value: &f64| Bar {
        label: "a < b & \"c\"".to_owned(),
        value: *value,
        text: format!("{value}"),
        tone: Tone::Engine,
    };
    let section = Section { title: "s".to_owned(), bars: values.iter().map(bar).collect() };
    let (title, subtitle, tick) = ("t", "u", |value: f64| value.to_string());
    Bars { title, subtitle, step: 2.0, from_one, tick, sections: vec![section] }.svg()
}

#[test]
fn text_in_a_chart_is_escaped() {
    let svg = bars(true, &[1.0]);
    assert!(svg.contains(">a &lt; b &amp; &quot;c&quot;</text>"), "{svg}");
}

#[test]
fn bars_go_both_ways_from_one() {
    let svg = bars(true, &[0.5, 2.0, 0.25]);
    // The first rectangle is the background.
    let begin = attributes(&svg, "<rect", "x");
    let width = attributes(&svg, "<rect", "width");
    let near = |a: f64, b: f64| (a - b).abs() < 0.2;
    assert!(near(begin[1] + width[1], begin[2]), "both touch the line of 1\n{svg}");
    assert!(near(width[1], width[2]), "half and twice are equally far from it\n{svg}");
    assert!(near(width[3], 2.0 * width[1]), "a quarter is twice as far\n{svg}");
}

#[test]
fn the_least_bar_from_the_left_can_be_seen() {
    let svg = bars(false, &[0.5, 8.0]);
    let width = attributes(&svg, "<rect", "width");
    assert!(width[1] > 10.0 && width[2] > 4.0 * width[1], "{svg}");
}

#[test]
fn no_bar_leaves_the_picture() {
    for values in [&[1.0][..], &[0.0, 5.0], &[1e-9], &[1e9], &[]] {
        for from_one in [false, true] {
            let svg = bars(from_one, values);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let begin = attributes(&svg, "<rect", "x");
            let width = attributes(&svg, "<rect", "width");
            let inside = begin.iter().zip(&width).all(|(x, width)| *x >= 0.0 && x + width <= 960.0);
            assert!(inside, "{values:?} {from_one}\n{svg}");
        }
    }
}

#[test]
fn lines_fit_their_axes() {
    let points = vec![(0.0, 0.0), (8.3, 1950.0)];
    let series = vec![Series { name: "grouplog".to_owned(), tone: Tone::Engine, points }];
    let svg = Lines { title: "t", subtitle: "u", axes: ("seconds", "MB/s"), series }.svg();
    // From the lower left corner to the right edge, just below the top line of 2000.
    assert!(svg.contains("points=\"64.0,372.0 936.0,87.3\""), "{svg}");
    for name in ["0", "500", "2000", "2", "8", "seconds", "MB/s", "grouplog"] {
        assert!(svg.contains(&format!(">{name}</text>")), "no {name}\n{svg}");
    }
}

#[test]
fn a_chart_without_points_is_a_chart() {
    let svg = Lines { title: "t", subtitle: "u", axes: ("s", "v"), series: Vec::new() }.svg();
    assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
}
