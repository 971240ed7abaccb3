//! Short names that other tools' sweeps use for a recipe's keys.

use crate::base::suggest::did_you_mean;

/// Short names and the keys they stand for.
pub const ALIASES: &[(&str, &str)] = &[
    ("lr", "train.optimizer.lr"),
    ("learning_rate", "train.optimizer.lr"),
    ("weight_decay", "train.optimizer.weight_decay"),
    ("momentum", "train.optimizer.momentum"),
    ("optimizer", "train.optimizer.kind"),
    ("scheduler", "train.scheduler.kind"),
    ("warmup_epochs", "train.scheduler.warmup_epochs"),
    ("batch_size", "train.batch_size"),
    ("epochs", "train.epochs"),
    ("loss", "train.loss.kind"),
    ("label_smoothing", "train.loss.label_smoothing"),
    ("dropout", "model.head.dropout"),
    ("hidden", "model.head.hidden"),
    ("head", "model.head.kind"),
    ("backbone", "model.backbone.name"),
    ("outputs", "model.backbone.outputs"),
    ("precision", "engine.precision"),
];

/// The first keys of a recipe that a sweep may vary.
const ROOTS: &[&str] = &["seed", "model", "engine", "data", "cache", "train", "metrics"];

/// The path of a recipe that a sweep's key stands for; `own` are the user's names, which win over [`ALIASES`].
///
/// # Errors
/// The key is neither a path nor a name; what is wrong, with near spellings.
pub fn resolve_key(key: &str, own: &[(String, String)]) -> Result<String, String> {
    if let Some((_, path)) = own.iter().find(|(name, _)| name == key) {
        return Ok(path.clone());
    }
    let first = key.split(['.', '[']).next().unwrap_or_default();
    if ROOTS.contains(&first) {
        return Ok(key.to_string());
    }
    if let Some((_, path)) = ALIASES.iter().find(|(name, _)| *name == key) {
        return Ok((*path).to_string());
    }
    let names = ROOTS.iter().copied().chain(ALIASES.iter().map(|(name, _)| *name));
    let near = did_you_mean(if key.contains('.') { first } else { key }, names);
    Err(format!("`{key}` is neither a recipe's key nor a short name for one{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_and_slips_are_told() {
        let own = [("rate".to_string(), "train.optimizer.lr".to_string())];
        assert_eq!(resolve_key("lr", &[]).unwrap(), "train.optimizer.lr");
        assert_eq!(resolve_key("rate", &own).unwrap(), "train.optimizer.lr");
        assert_eq!(resolve_key("train.epochs", &[]).unwrap(), "train.epochs");
        assert!(resolve_key("batchsize", &[]).unwrap_err().ends_with("did you mean `batch_size`?"));
        assert!(resolve_key("trian.epochs", &[]).unwrap_err().ends_with("did you mean `train`?"));
    }
}
