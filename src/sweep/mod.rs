//! Rank 2: sweeps: what varies, how values are chosen, and when a trial is given up.
//!
//! A [`SweepConfig`] says it in a recipe's words; [`SweepConfig::space`] makes a [`Space`] of it, whose dimensions
//! are [domains](domain). [`tpe`] chooses by the trials before, [`hyperband`] ends trials early. Nothing here trains.

mod alias;
mod config;
pub mod domain;
mod expression;
pub mod hyperband;
mod parameter;
mod quantile;
mod space;
pub mod tpe;

pub use alias::{ALIASES, resolve_key};
pub use config::{Goal, Repeat, SweepConfig, SweepMethod, SweepMetric};
pub use domain::{Distribution, Domain, Numbers};
pub use expression::is_expression;
pub use hyperband::EarlyTerminate;
pub use parameter::{LudwigSpace, ParameterSpec, SweepParameter};
pub use quantile::student_t;
pub use space::{Dimension, Setting, Space};
