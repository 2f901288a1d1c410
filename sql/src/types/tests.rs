//! Names read back, and coercions follow Trino's table.

use super::*;

fn read(text: &str) -> Type {
    Type::parse(text).unwrap()
}

#[test]
fn names_read_back() {
    for name in [
        "decimal(10,2)",
        "varchar(3)",
        "varchar",
        "char(4)",
        "timestamp(4) with time zone",
        "time(6)",
        "array(map(varchar, row(a integer, \"b c\" double)))",
        "row(integer, varchar)",
        "interval day to second",
    ] {
        assert_eq!(read(name).to_string(), name);
    }
}

#[test]
fn other_spellings_are_the_same_types() {
    assert_eq!(read("STRUCT<a: INT, b: STRING>"), read("row(a integer, b varchar)"));
    assert_eq!(read("array<string>"), read("array(varchar)"));
    assert_eq!(read("DOUBLE PRECISION"), Type::Double);
    assert_eq!(read("timestamp"), Type::Timestamp(3));
    assert_eq!(Type::parse("nonsense").unwrap_err().code().0, "TYPE_NOT_FOUND");
}

#[test]
fn common_types() {
    let same = |a: &str, b: &str| common(&read(a), &read(b)).map(|t| t.to_string());
    assert_eq!(same("integer", "decimal(2,1)").as_deref(), Some("decimal(11,1)"));
    assert_eq!(same("bigint", "double").as_deref(), Some("double"));
    assert_eq!(same("varchar(1)", "varchar(3)").as_deref(), Some("varchar(3)"));
    assert_eq!(same("date", "timestamp(3)").as_deref(), Some("timestamp(3)"));
    assert_eq!(same("varchar", "integer"), None);
    assert_eq!(same("array(integer)", "array(double)").as_deref(), Some("array(double)"));
}

#[test]
fn arrow_types_survive() {
    for name in ["timestamp(5)", "map(varchar, array(bigint))", "row(a integer)", "decimal(38,2)", "uuid", "json"] {
        let arrow = read(name).to_arrow();
        assert_eq!(Type::from_arrow(&arrow).to_arrow(), arrow, "{name}");
    }
}
