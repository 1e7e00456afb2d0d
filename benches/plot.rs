//! Plots of cost against size, as SVG: a logarithmic axis to the right, a linear one upwards from 0.
//!
//! No colour but the lines' own is fixed: text and axes follow the reader's scheme, light or dark.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 44.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 52.0;
/// Legible on white and on black.
const COLOURS: [&str; 4] = ["#d9480f", "#2b8a3e", "#1c7ed6", "#9c36b5"];
/// So that lines are told apart without their colours.
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "9 3 2 3"];

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.title{font-size:15px;font-weight:600}\
.axis{stroke:#59636e;fill:none}.grid{stroke:#59636e;stroke-opacity:.25}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.axis,.grid{stroke:#9198a1}}";

/// What is drawn.
#[derive(Debug)]
pub struct Plot<'a> {
    /// Above.
    pub title: &'a str,
    /// Below.
    pub x: &'a str,
    /// To the left.
    pub y: &'a str,
    /// A name and its points, by rising x from 1 on.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

impl Plot<'_> {
    /// The picture.
    pub fn svg(&self) -> String {
        let scale = Scale::of(self.lines.iter().flat_map(|(_, points)| points));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(self.title)
        );
        text(&mut svg, LEFT, 24.0, "start\" class=\"title", self.title);
        self.axes(&mut svg, &scale);
        for (number, (name, points)) in self.lines.iter().enumerate() {
            line(&mut svg, &scale, number, points);
            legend(&mut svg, number, name);
        }
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String, scale: &Scale) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for decade in scale.first..=scale.last {
            let x = scale.x(10_f64.powi(decade));
            stroke(svg, "grid", (x, TOP), (x, bottom));
            text(svg, x, bottom + 18.0, "middle", &grouped(10_u64.pow(decade as u32)));
        }
        let mut tick = 0.0;
        while tick <= scale.top * 1.001 {
            let y = scale.y(tick);
            stroke(svg, "grid", (LEFT, y), (right, y));
            text(svg, LEFT - 8.0, y + 4.0, "end", &shown(tick));
            tick += scale.step;
        }
        stroke(svg, "axis", (LEFT, TOP), (LEFT, bottom));
        stroke(svg, "axis", (LEFT, bottom), (right, bottom));
        text(svg, (LEFT + right) / 2.0, HEIGHT - 12.0, "middle", self.x);
        let middle = (TOP + bottom) / 2.0;
        text(svg, 16.0, middle, &format!("middle\" transform=\"rotate(-90 16 {middle})"), self.y);
    }
}

/// From values to places.
struct Scale {
    /// The powers of ten at the ends of the axis.
    first: i32,
    last: i32,
    top: f64,
    step: f64,
}

impl Scale {
    fn of<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Self {
        let widest = |(least, most, y): (f64, f64, f64), point: &(f64, f64)| {
            (least.min(point.0), most.max(point.0), y.max(point.1))
        };
        let (least, most, y) = points.fold((f64::INFINITY, 0.0, 0.0), widest);
        let step = step(y);
        let first = if least.is_finite() { (least.log10() + 1e-9).floor() as i32 } else { 0 };
        let last = ((most.max(1.0).log10() - 1e-9).ceil() as i32).max(first + 1);
        Self { first, last, top: (y / step).ceil().max(1.0) * step, step }
    }

    fn x(&self, x: f64) -> f64 {
        let (first, last) = (f64::from(self.first), f64::from(self.last));
        LEFT + (x.log10() - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - y / self.top * (bottom - TOP)
    }
}

/// 1, 2 or 5 times a power of ten, so that there are four to ten of them up to `top`.
fn step(top: f64) -> f64 {
    let rough = (top / 5.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power)
}

fn line(svg: &mut String, scale: &Scale, number: usize, points: &[(f64, f64)]) {
    let colour = COLOURS[number % COLOURS.len()];
    let places: Vec<String> =
        points.iter().map(|(x, y)| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y))).collect();
    let dash = DASHES[number % DASHES.len()];
    let drawn = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
        places.join(" ")
    );
    drawn.expect("a string takes all");
    for place in places {
        let (x, y) = place.split_once(',').expect("a pair");
        writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>")
            .expect("a string takes all");
    }
}

fn legend(svg: &mut String, number: usize, name: &str) {
    let x = LEFT + 225.0 * number as f64;
    let (colour, dash) = (COLOURS[number % COLOURS.len()], DASHES[number % DASHES.len()]);
    let drawn = writeln!(
        svg,
        "<line x1=\"{x}\" y1=\"46\" x2=\"{}\" y2=\"46\" stroke=\"{colour}\" stroke-width=\"3\" stroke-dasharray=\"{dash}\"/>",
        x + 26.0
    );
    drawn.expect("a string takes all");
    text(svg, x + 32.0, 50.0, "start", name);
}

fn stroke(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let (x1, y1, x2, y2) = (from.0, from.1, to.0, to.1);
    writeln!(svg, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
        .expect("a string takes all");
}

/// `anchor` may bring more attributes along.
fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
        .expect("a string takes all");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// With a comma after each three digits, from the right.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn shown(tick: f64) -> String {
    if tick.fract().abs() < 1e-9 { grouped(tick as u64) } else { format!("{tick:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_round_and_there_are_a_few_of_them() {
        for (top, expected) in
            [(5.0, 1.0), (9.0, 2.0), (23.0, 5.0), (47.0, 10.0), (0.7, 0.2), (1_500.0, 500.0)]
        {
            assert!((step(top) - expected).abs() < 1e-9, "{top}: {}", step(top));
        }
    }

    #[test]
    fn points_lie_within_the_axes() {
        let scale = Scale::of([(1.0, 12.0), (1_000_000.0, 37.0)].iter());
        assert_eq!((scale.first, scale.last, scale.top), (0, 6, 40.0));
        assert!((scale.x(1.0) - LEFT).abs() < 1e-9 && (scale.x(1e6) - (WIDTH - RIGHT)).abs() < 1e-9);
        assert!((scale.y(0.0) - (HEIGHT - BOTTOM)).abs() < 1e-9 && scale.y(37.0) > TOP);
    }

    #[test]
    fn a_plot_says_what_it_shows() {
        let lines = vec![("ours & theirs", vec![(1.0, 2.0), (10.0, 2.0)])];
        let svg = Plot { title: "cost < size", x: "tasks", y: "ns", lines }.svg();
        for part in [
            "cost &lt; size",
            "ours &amp; theirs",
            ">tasks<",
            ">ns<",
            "<polyline",
            "prefers-color-scheme:dark",
        ] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(grouped(50), "50");
    }
}
