//! Cost against size: what a poll, a switch, a request, a timer cost while 1 to 1,000,000 others are alive, beside tokio.
//!
//! Each point is a process of its own; the runtimes of a point run one after the other, and the median of the
//! repetitions counts. To be kept is: flat, but for the caches. A round through n tasks goes through all their memory, so
//! from the size on at which that leaves a cache, each poll waits for the next one. (To tell that from work
//! that grows, `instructions` counts a poll at several sizes: instructions know no caches.)
//!
//! - `cargo bench -p benches --bench growth -- [WORD..] [--reps N] [--max N]`: figures whose title contains a word;
//! - `.. -- --write`: leaves `growth.md`, `growth.tsv` and the pictures there, too.
//!
//! What would make it worse: anything that is walked, searched or moved as a whole.

use benches::growth::{Figure, Line, ask, figures};
use benches::plot::{Plot, grouped};
use benches::record::{self, GROWTH, Record};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CHILD: &str = "--run-one";
const REPETITIONS: usize = 3;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some(CHILD) => run_one(&arguments[1..]),
        _ if ask(&arguments) => {}
        _ => measure(&Options::parse(arguments)),
    }
}

struct Options {
    words: Vec<String>,
    repetitions: usize,
    most: u64,
    folder: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: Vec<String>) -> Self {
        let mut options = Self { words: Vec::new(), repetitions: REPETITIONS, most: u64::MAX, folder: None };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} wants a value"));
            match argument.as_str() {
                "--reps" => options.repetitions = value().parse().expect("--reps takes a number"),
                "--max" => options.most = value().parse().expect("--max takes a number"),
                "--write" => options.folder = Some(record::documents()),
                _ => options.words.push(argument),
            }
        }
        options
    }

    fn wants(&self, figure: &Figure) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| figure.title.contains(word.as_str()))
    }
}

// ---- one point -----------------------------------------------------------------------------------------------------

fn run_one(arguments: &[String]) {
    let [name, line, size] = arguments else { panic!("a figure, a line and a size") };
    let figure = figures().into_iter().find(|figure| figure.name == name).expect("a figure of that name");
    let line = figure.lines.iter().find(|one| one.name == line).expect("a line of that name");
    println!("{}", (line.measure)(size.parse().expect("a size")));
    // What is alive need not be taken down piece by piece.
    std::process::exit(0);
}

/// In a process of its own. `None` if that fails: out of memory, say.
fn point(figure: &Figure, line: &Line, size: u64) -> Option<f64> {
    let this = env::current_exe().expect("the path of this program");
    let output = Command::new(this).args([CHILD, figure.name, line.name, &size.to_string()]).output();
    let output = output.expect("this program runs again");
    let cost = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    if cost.is_none() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        eprintln!("{}, {}, {size}: no result: {complaint}", figure.title, line.name);
    }
    cost
}

// ---- all of them ---------------------------------------------------------------------------------------------------

/// The cost of each line at each size.
struct Table<'a> {
    figure: &'a Figure,
    rows: Vec<(u64, Vec<Option<f64>>)>,
}

fn measure(options: &Options) {
    let mut document =
        String::from("# Cost against size\n\nWritten by `cargo bench -p benches -- --write`.\n");
    let mut tsv = String::new();
    let mut record = Record::new("growth");
    for figure in figures().iter().filter(|figure| options.wants(figure)) {
        let table = Table::measure(figure, options);
        println!("{}", table.markdown());
        document += &table.markdown();
        tsv += &table.tsv();
        if let Some(growth) = table.growth() {
            record.number(figure.title, "bursar", GROWTH, growth);
        }
        if let Some(folder) = &options.folder {
            write(&folder.join(format!("{}.svg", figure.name)), &table.svg());
        }
    }
    record.save().expect("a file below `target`");
    if let Some(folder) = &options.folder {
        write(&folder.join("growth.md"), &document);
        write(&folder.join("growth.tsv"), &tsv);
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    fs::write(path, text).expect("the file can be written");
}

impl<'a> Table<'a> {
    fn measure(figure: &'a Figure, options: &Options) -> Self {
        let sizes = figure.sizes.iter().copied().filter(|size| *size <= options.most);
        let rows = sizes.map(|size| {
            let mut costs = vec![Vec::new(); figure.lines.len()];
            for _ in 0..options.repetitions {
                for (line, costs) in figure.lines.iter().zip(&mut costs) {
                    costs.extend(point(figure, line, size));
                }
            }
            (size, costs.into_iter().map(median).collect())
        });
        Self { figure, rows: rows.collect() }
    }

    /// What the first line costs at the greatest size, to the smallest.
    fn growth(&self) -> Option<f64> {
        let [(_, least), .., (_, most)] = &self.rows[..] else { return None };
        Some(most[0]? / least[0]?)
    }

    fn markdown(&self) -> String {
        let Figure { name, title, size, unit, lines, .. } = self.figure;
        let mut text = format!("\n## {title}\n\n![{title}]({name}.svg)\n\n| {size} |");
        let names: Vec<&str> = lines.iter().map(|line| line.name).collect();
        writeln!(text, " {}, {unit} |", names.join(&format!(", {unit} | "))).expect("a string takes all");
        writeln!(text, "|---|{}", "---|".repeat(names.len())).expect("a string takes all");
        for (size, costs) in &self.rows {
            let costs: Vec<String> = costs.iter().map(|cost| shown(*cost)).collect();
            writeln!(text, "| {} | {} |", grouped(*size), costs.join(" | ")).expect("a string takes all");
        }
        text
    }

    fn tsv(&self) -> String {
        let mut text = String::new();
        for (size, costs) in &self.rows {
            for (line, cost) in self.figure.lines.iter().zip(costs) {
                let (figure, unit) = (self.figure.name, self.figure.unit);
                writeln!(text, "{figure}\t{}\t{size}\t{unit}\t{}", line.name, shown(*cost))
                    .expect("a string takes all");
            }
        }
        text
    }

    fn svg(&self) -> String {
        let points = |number: usize| {
            let costs = self.rows.iter().filter_map(|(size, costs)| Some((*size as f64, costs[number]?)));
            costs.collect()
        };
        let lines = self.figure.lines.iter().enumerate().map(|(number, line)| (line.name, points(number)));
        let Figure { title, size, unit, .. } = self.figure;
        Plot { title, x: size, y: unit, lines: lines.collect() }.svg()
    }
}

fn median(mut costs: Vec<f64>) -> Option<f64> {
    costs.sort_unstable_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied()
}

fn shown(cost: Option<f64>) -> String {
    match cost {
        None => "-".to_owned(),
        Some(cost) if cost < 100.0 => format!("{cost:.1}"),
        Some(cost) => format!("{cost:.0}"),
    }
}
