//! The mirror of meta/v1 `LabelSelector`, and what it means.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::field::{FieldError, Path, Report};
use crate::labels::{Labels, Operator, Requirement, Selector, check_key, check_value};

mirror! {
    /// A selector as objects carry it. Absent (`None` in an `Option`), it selects nothing; present and empty,
    /// everything. A Service's selector is not one of these.
    ///
    /// ```
    /// use svcplane::k8s::{LabelSelector, LabelSelectorRequirement};
    ///
    /// let mut expression = LabelSelectorRequirement::default();
    /// expression.key = "tier".into();
    /// expression.operator = "In".into();
    /// expression.values = vec!["cache".into(), "store".into()];
    /// let mut selector = LabelSelector::default();
    /// selector.match_labels.insert("app".into(), "redis".into());
    /// selector.match_expressions.push(expression);
    /// assert_eq!(selector.convert().unwrap().to_string(), "app=redis,tier in (cache,store)");
    /// ```
    pub struct LabelSelector {
        /// Pairs that have to be there.
        match_labels: BTreeMap<String, String>,
        /// Conditions that have to hold.
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// A condition of a [`LabelSelector`].
    pub struct LabelSelectorRequirement {
        /// The key that it is about.
        key: String,
        /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
        operator: String,
        /// The values, for `In` and `NotIn`.
        values: Vec<String>,
    }
}

impl LabelSelector {
    /// Every mistake, with paths below `selector`.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut report = Report::default();
        let root = Path::root("selector");
        for (key, value) in &self.match_labels {
            let labels = root.field("matchLabels");
            let path = labels.key(key);
            pair(&mut report, &path, key, Some(value));
        }
        for (i, expression) in self.match_expressions.iter().enumerate() {
            let expressions = root.field("matchExpressions");
            let path = expressions.index(i);
            pair(&mut report, &path.field("key"), &expression.key, None);
            let values = path.field("values");
            match operator(&expression.operator) {
                Some(Operator::In | Operator::NotIn) if expression.values.is_empty() => {
                    report.required(&values, "expected for In and NotIn");
                }
                Some(Operator::Exists | Operator::DoesNotExist)
                    if !expression.values.is_empty() =>
                {
                    report.forbidden(&values, "may not be set for Exists and DoesNotExist");
                }
                Some(_) => {}
                None => {
                    let expected = "expected In, NotIn, Exists or DoesNotExist";
                    report.invalid(&path.field("operator"), &expression.operator, expected);
                }
            }
            for (i, value) in expression.values.iter().enumerate() {
                if let Err(error) = check_value(value) {
                    report.invalid(&values.index(i), value, &error.to_string());
                }
            }
        }
        report.into_errors()
    }

    /// The selector that it means.
    ///
    /// # Errors
    ///
    /// Every mistake, as [`validate`](Self::validate) has them.
    pub fn convert(&self) -> Result<Selector, Vec<FieldError>> {
        let errors = self.validate();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut requirements = Vec::new();
        for (key, value) in &self.match_labels {
            requirements.push(Requirement::new(key, Operator::Equals, [value.as_str()])?);
        }
        for LabelSelectorRequirement { key, operator: name, values } in &self.match_expressions {
            if let Some(operator) = operator(name) {
                let values = values.iter().map(String::as_str);
                requirements.push(Requirement::new(key, operator, values)?);
            }
        }
        Ok(Selector::new(requirements))
    }

    /// The labels that an object has to have, if it asks for nothing else: the pairs, and each `In` with one value,
    /// which goes before a pair of its key.
    ///
    /// # Errors
    ///
    /// The expressions that are no single `In`.
    pub fn to_labels(&self) -> Result<Labels, Vec<FieldError>> {
        let mut report = Report::default();
        let root = Path::root("selector");
        let mut pairs = self.match_labels.clone();
        for (i, expression) in self.match_expressions.iter().enumerate() {
            if let ("In", [value]) = (expression.operator.as_str(), &expression.values[..]) {
                pairs.insert(expression.key.clone(), value.clone());
            } else {
                let path = root.field("matchExpressions");
                let text = alloc::format!("{} {}", expression.key, expression.operator);
                report.invalid(&path.index(i), &text, "expected In with one value");
            }
        }
        let errors = report.into_errors();
        if errors.is_empty() { Ok(pairs.into_iter().collect()) } else { Err(errors) }
    }
}

impl TryFrom<&Selector> for LabelSelector {
    type Error = FieldError;

    /// `=` and `==` become labels, the others expressions; and so does a second `=` of a key, as labels have each key once.
    ///
    /// # Errors
    ///
    /// `!=`, `>` and `<` have no form here, nor has the selector that matches nothing.
    fn try_from(selector: &Selector) -> Result<Self, FieldError> {
        let mut object = Self::default();
        let root = Path::root("selector");
        let Some(requirements) = selector.requirements() else {
            return Err(FieldError::text(&root, "", &"expected a selector that matches something"));
        };
        for requirement in requirements {
            let key = requirement.key().to_string();
            let mut values: Vec<String> =
                requirement.values().iter().map(ToString::to_string).collect();
            let operator = match requirement.operator() {
                Operator::Equals | Operator::DoubleEquals
                    if !object.match_labels.contains_key(&key) =>
                {
                    object.match_labels.insert(key, values.pop().unwrap_or_default());
                    continue;
                }
                Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                Operator::NotEquals | Operator::GreaterThan | Operator::LessThan => {
                    let text = requirement.to_string();
                    let expected = "expected =, ==, in, notin, a key or !key";
                    return Err(FieldError::text(&root, &text, &expected));
                }
            };
            let operator = operator.into();
            object.match_expressions.push(LabelSelectorRequirement { key, operator, values });
        }
        Ok(object)
    }
}

fn operator(name: &str) -> Option<Operator> {
    match name {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}

fn pair(report: &mut Report, path: &Path<'_>, key: &str, value: Option<&str>) {
    if let Err(error) = check_key(key) {
        report.text(path, key, &error);
    }
    if let Some(Err(error)) = value.map(check_value) {
        report.invalid(path, &value.unwrap_or_default(), &error.to_string());
    }
}
