//! The fields of a table's rows: which columns hold a picture or a text. A new modality is a key of the formats
//! and a line here.

use super::Field;
use crate::base::Problems;
use crate::sample::Modality;

/// The columns that a table's config names, by the keys of the same names.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldColumns<'a> {
    pub image: &'a Option<String>,
    pub text: &'a Option<String>,
    pub text_b: &'a Option<String>,
}

/// One field and its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldColumn<'a> {
    pub field: Field,
    pub column: &'a str,
}

impl FieldColumn<'_> {
    /// The key that names the column.
    pub fn key(&self) -> String {
        format!("data.{}", self.field.name)
    }
}

impl<'a> FieldColumns<'a> {
    /// The fields of every row, in the order in which a pair is encoded. Without a key there is a picture in the
    /// column `image`.
    pub fn list(&self) -> Vec<FieldColumn<'a>> {
        let given = [
            ("image", Modality::Image, self.image),
            ("text", Modality::Text, self.text),
            ("text_b", Modality::Text, self.text_b),
        ];
        let field = |name: &str, modality, column| FieldColumn { field: Field { name: name.into(), modality }, column };
        let named: Vec<FieldColumn<'a>> = given
            .into_iter()
            .filter_map(|(name, modality, column)| Some(field(name, modality, column.as_deref()?)))
            .collect();
        if named.is_empty() { vec![field("image", Modality::Image, "image")] } else { named }
    }

    /// The fields without their columns.
    pub fn fields(&self) -> Vec<Field> {
        self.list().into_iter().map(|column| column.field).collect()
    }

    pub fn check(&self, problems: &mut Problems) {
        if self.text_b.is_some() && self.text.is_none() {
            problems.push(None, "data.text_b", "is the second text of a pair, and there is no `text`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_pictures_unless_it_says_otherwise() {
        let (none, some) = (None, Some("sentence".to_string()));
        let columns = |text, text_b| FieldColumns { image: &none, text, text_b };
        let names = |columns: FieldColumns<'_>| -> Vec<String> {
            columns.list().iter().map(|one| format!("{}={}", one.field.name, one.column)).collect()
        };
        assert_eq!(names(columns(&none, &none)), ["image=image"]);
        assert_eq!(names(columns(&some, &some)), ["text=sentence", "text_b=sentence"]);
        let mut problems = Problems::new("x");
        columns(&none, &some).check(&mut problems);
        assert_eq!(problems.list[0].path, "data.text_b");
    }
}
