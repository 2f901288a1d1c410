//! `SHOW ..` and `DESCRIBE ..`.

use headwater_engine::error::{Error, Result};

use crate::{
    parser::ddl::Show,
    session::{Outcome, Session},
};

/// Shows it.
pub(crate) async fn run(_session: &Session, _show: &Show) -> Result<Outcome> {
    Err(Error::not_supported("this statement is not supported"))
}
