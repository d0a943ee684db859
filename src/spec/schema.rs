//! The published JSON Schema of the format, made from the tables the reader uses.

use serde_json::{Map, Value, json};

use super::keys::{FILE, Form, Names, Table};

/// `^…$` of names that expressions can use.
const NAME: &str = "^[a-z]([a-z0-9_]{0,38}[a-z0-9])?$";

/// The JSON Schema (draft 2020-12) of pipeline files of version 2.
///
/// It says what editors can check while one types; `load` checks more (names, cycles, expressions).
pub fn schema() -> Value {
    let mut tables = Map::new();
    let mut root = Map::new();
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("flowrun pipeline file, version 2"));
    root.extend(object(&FILE, &mut tables));
    root.insert("$defs".to_owned(), Value::Object(tables));
    Value::Object(root)
}

fn object(table: &'static Table, tables: &mut Map<String, Value>) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in table.keys {
        let mut form = schema_of(&key.form, tables);
        if let Some(form) = form.as_object_mut() {
            form.insert("description".to_owned(), json!(key.about));
        }
        properties.insert(key.name.to_owned(), form);
    }
    let required: Vec<&str> =
        table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    if table.extensible {
        object.insert("patternProperties".to_owned(), json!({"^x-": {}}));
    }
    object
}

fn schema_of(form: &'static Form, tables: &mut Map<String, Value>) -> Value {
    match form {
        Form::Text | Form::Scalar => json!({"type": ["string", "number", "boolean"]}),
        Form::Version => json!({"enum": ["2", 2]}),
        Form::PipelineName => {
            json!({"type": "string", "pattern": "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"})
        }
        Form::Name => json!({"type": "string", "pattern": NAME}),
        Form::Path => json!({"type": "string", "minLength": 1, "pattern": "^[^/]"}),
        Form::Boolean => json!({"type": "boolean"}),
        Form::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Number => json!({"type": "number"}),
        Form::Duration => {
            json!({"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d) ?)+$"})
        }
        Form::Size => {
            json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(k|K|M|G|T|P|Ki|Mi|Gi|Ti|Pi)$"})
        }
        Form::Cpu => json!({"anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?m?$"},
        ]}),
        Form::Factor => json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?x$"}),
        Form::Address => {
            json!({"type": "string", "pattern": "^(https?|s3|file|models|runs|flowrun):"})
        }
        Form::ContentDigest => {
            json!({"type": "string", "pattern": "^(sha256|b3):[0-9a-fA-F]{64}$"})
        }
        Form::Expression => {
            json!({"type": "string", "pattern": "^\\s*\\$\\{\\{[\\s\\S]*\\}\\}\\s*$"})
        }
        Form::Choice(words) => json!({"enum": words}),
        Form::List(item) => json!({"type": "array", "items": schema_of(item, tables)}),
        Form::Map(names, item) => {
            let item = schema_of(item, tables);
            let names = match names {
                Names::Name => json!({"pattern": NAME}),
                Names::Variable => json!({"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
                Names::Any => json!({}),
            };
            json!({"type": "object", "additionalProperties": item, "propertyNames": names})
        }
        Form::Table(table) => {
            if !tables.contains_key(table.name) {
                tables.insert(table.name.to_owned(), Value::Null);
                let made = object(table, tables);
                tables.insert(table.name.to_owned(), Value::Object(made));
            }
            json!({"$ref": format!("#/$defs/{}", table.name)})
        }
        Form::AnyOf(forms) => {
            let forms: Vec<Value> = forms.iter().map(|form| schema_of(form, tables)).collect();
            json!({"anyOf": forms})
        }
    }
}
