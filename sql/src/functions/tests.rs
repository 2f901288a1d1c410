//! Every function's example is run; results are compared as text.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;

use super::registry;

/// A stock session with the library's functions.
pub(super) fn context() -> SessionContext {
    let config = datafusion::prelude::SessionConfig::new()
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
    let context = SessionContext::new_with_config(config);
    registry().unwrap().register(&context).unwrap();
    context
}

/// The first value of the first row, as text; or the code of the error.
pub(super) async fn answer(context: &SessionContext, sql: &str) -> String {
    let batches = match context.sql(sql).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    match batches {
        Ok(batches) => {
            let options = FormatOptions::default().with_null("NULL");
            let column = batches[0].column(0);
            ArrayFormatter::try_new(column, &options).unwrap().value(0).to_string()
        }
        Err(error) => match headwater_engine::error::Error::find_in(&error) {
            Some(ours) => format!("ERROR {}", ours.code()),
            None => format!("ERROR {error}"),
        },
    }
}

#[tokio::test]
async fn every_example_answers_as_documented() {
    let context = context();
    let mut wrong = Vec::new();
    for function in registry().unwrap().iter() {
        let given = answer(&context, function.example.statement).await;
        if given != function.example.result {
            wrong.push(format!("{}: wanted {}, got {given}", function.example.statement, function.example.result));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
