//! What to write in place of functions that other engines have and Trino does not.
//!
//! Invariant: an alternative named here exists.

/// What does the work of a function of another engine.
pub(crate) fn alternative(name: &str) -> Option<&'static str> {
    Some(match name {
        "nvl" | "ifnull" | "isnull" => "coalesce(x, y)",
        "nvl2" | "iff" => "if(condition, x, y)",
        "decode" => "CASE x WHEN .. THEN .. END",
        "instr" | "charindex" | "locate" => "strpos(text, part)",
        "len" | "char_length" | "character_length" | "octet_length" => "length(x)",
        "substring_index" => "split_part(text, separator, n)",
        "rlike" | "regexp" | "regexp_matches" => "regexp_like(text, pattern)",
        "regexp_substr" => "regexp_extract(text, pattern)",
        "ascii" | "unicode" | "ord" => "codepoint(x)",
        "space" | "replicate" => "rpad('', n, ' ')",
        "string_agg" | "group_concat" | "wm_concat" => "listagg(x, ',') WITHIN GROUP (ORDER BY x)",
        "collect_list" => "array_agg(x)",
        "collect_set" | "set_agg" => "array_agg(DISTINCT x)",
        "explode" | "posexplode" | "flatten_array" => "CROSS JOIN UNNEST(x) AS t(y)",
        "size" | "array_length" | "array_size" => "cardinality(x)",
        "array_contains" | "list_contains" => "contains(array, x)",
        "array_append" | "array_prepend" | "list_append" => "array || x",
        "array_sum" | "array_average" => "reduce(array, 0, (s, x) -> s + x, s -> s)",
        "get_json_object" | "json_extract_string" | "json_extract_path_text" => "json_extract_scalar(json, '$.key')",
        "to_json" | "json_encode" => "json_format(CAST(x AS json))",
        "from_json" | "parse_json" => "json_parse(text)",
        "getdate" | "sysdate" => "current_timestamp",
        "datediff" => "date_diff('day', a, b)",
        "dateadd" | "date_sub" | "adddate" | "timestampadd" => "date_add('day', n, x)",
        "add_months" => "date_add('month', n, x)",
        "months_between" => "date_diff('month', a, b)",
        "datepart" | "date_part" | "dayofweek" | "dayofmonth" | "dayofyear" => "extract(field FROM x)",
        "date_bin" | "time_bucket" => "date_trunc('hour', x)",
        "last_day" | "eomonth" => "last_day_of_month(x)",
        "unix_timestamp" | "epoch" => "to_unixtime(x)",
        "strftime" => "date_format(x, '%Y-%m-%d')",
        "strptime" => "date_parse(text, '%Y-%m-%d')",
        "median" => "approx_percentile(x, 0.5)",
        "percentile" | "percentile_approx" | "percentile_cont" | "quantile" => "approx_percentile(x, share)",
        "approx_count_distinct" | "count_distinct" => "approx_distinct(x)",
        "sha2" => "sha256(to_utf8(x))",
        "hash" | "farm_fingerprint" => "xxhash64(to_utf8(x))",
        "hex" => "to_hex(x)",
        "unhex" => "from_hex(x)",
        "base64" => "to_base64(x)",
        "unbase64" => "from_base64(x)",
        "pmod" => "mod(mod(x, y) + y, y)",
        "to_number" | "to_varchar" | "tostring" | "str" => "CAST(x AS type)",
        "map_contains_key" => "contains(map_keys(map), key)",
        "tumble" | "hop" | "session" | "tumble_start" | "tumble_end" | "tumble_rowtime" | "hop_start" | "hop_end"
        | "hop_rowtime" | "session_start" | "session_end" | "session_rowtime" => {
            "FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL ..)) GROUP BY window_start, window_end"
        }
        "tumble_proctime" | "hop_proctime" | "session_proctime" => "window_time over a column AS PROCTIME()",
        _ if name.starts_with("st_") || name.starts_with("bing_tile") => {
            "coordinates as numbers: functions of geometry are not part of Headwater"
        }
        _ if name.starts_with("learn_") || matches!(name, "classify" | "regress" | "features") => {
            "another tool: functions of machine learning are not part of Headwater"
        }
        _ => return None,
    })
}
