//! `caft cache ls` and `caft cache show`.

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ago, bytes, short};
use crate::base::Home;
use crate::cache::{ColumnInfo, Store};
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};

/// List the stored columns: size, rows, engine, the recipe that made them, last use.
#[derive(Debug, clap::Args)]
pub struct Ls {}

/// Show all that is known of one column.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The first digits of the column's key.
    key: String,
}

impl Ls {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let store = Store::open(&Home::from_environment()?)?;
        let mut columns = store.columns()?;
        columns.sort_by_key(|info| std::cmp::Reverse(info.last_use));
        if globals.json {
            print_json(&columns.iter().map(describe).collect::<Vec<_>>())?;
        } else if columns.is_empty() {
            print(&format!("nothing is stored in `{}`\n", store.folder().display()))?;
        } else {
            print(&table(&columns).to_string())?;
            let total: u64 = columns.iter().map(|info| info.bytes).sum();
            print(&format!("{} in `{}`\n", bytes(total), store.folder().display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let info = Store::open(&Home::from_environment()?)?.find(&self.key)?;
        if globals.json {
            print_json(&describe(&info))?;
        } else {
            print(&shown(&info))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(columns: &[ColumnInfo]) -> Table<9> {
    let mut table = Table::new(["key", "tensor", "row", "dtype", "rows", "size", "engine", "recipe", "last use"]);
    for info in columns {
        let spec = &info.spec;
        table.row([
            short(info),
            tensor(info),
            format!("{:?}", spec.row_shape),
            spec.dtype.name().into(),
            info.rows.to_string(),
            bytes(info.bytes),
            engine(info),
            spec.made_by.clone(),
            ago(info.last_use),
        ]);
    }
    table
}

/// The tensor's last path components and what was taken from it.
fn tensor(info: &ColumnInfo) -> String {
    let name: Vec<&str> = info.spec.tensor().rsplitn(3, '/').take(2).collect();
    let name: Vec<&str> = name.into_iter().rev().collect();
    match info.spec.ingredients.get("select") {
        None | Some(Value::Null) => name.join("/"),
        Some(Value::Object(select)) => {
            let parts = select.iter().map(|(key, value)| match key.as_str() {
                "kind" => plain(value),
                key => format!("{key}={}", plain(value)),
            });
            format!("{} {}", name.join("/"), parts.collect::<Vec<_>>().join(" "))
        }
        Some(select) => format!("{} {}", name.join("/"), plain(select)),
    }
}

fn engine(info: &ColumnInfo) -> String {
    let parts = ["runtime", "precision"].map(|name| info.spec.ingredients.get(name).map(plain));
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A value as it is written in a recipe: text without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shown(info: &ColumnInfo) -> String {
    let spec = &info.spec;
    let mut lines = vec![
        ("key", spec.key.to_string()),
        ("folder", info.folder.display().to_string()),
        ("recipe", spec.made_by.clone()),
        ("made", ago(info.created)),
        ("last use", ago(info.last_use)),
        ("rows", format!("{} of shape {:?} as {}", info.rows, spec.row_shape, spec.dtype.name())),
        ("shards", format!("{}, {}", info.shards, bytes(info.bytes))),
    ];
    lines.push(("besides", bytes(info.waste)));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    text += "made of\n";
    for (name, value) in &spec.ingredients {
        text += &format!("  {name:<16} {}\n", plain(value));
    }
    text
}

fn describe(info: &ColumnInfo) -> Value {
    let seconds = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    json!({
        "key": info.spec.key,
        "path": info.folder,
        "recipe": info.spec.made_by,
        "row_shape": info.spec.row_shape,
        "dtype": info.spec.dtype,
        "rows": info.rows,
        "shards": info.shards,
        "bytes": info.bytes,
        "other_bytes": info.waste,
        "created_secs": seconds(info.created),
        "last_use_secs": seconds(info.last_use),
        "ingredients": info.spec.ingredients,
    })
}
