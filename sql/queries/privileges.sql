SET LOCAL search_path = pg_catalog, pg_temp\;
-- privileges: for each table that the queries read, whether it exists and this role can read its columns and rows.
--
-- Parameters
--   :spend_source    text  events; sums or auto to include the tables of the sums
--   :credits_column  text  credits_deducted_cents, or credits_deducted where that is its name
-- Columns: table_name, is_present, can_read, can_see_rows, wrong_types
-- Order:   table_name
-- psql -X -q -v ON_ERROR_STOP=1 -v spend_source=events -v credits_column=credits_deducted_cents -f privileges.sql
-- is_present is false for a view or a foreign table: it has no policies, and its rows can change without a change of the
-- catalogs. can_read of a table of the sums is also of all that its functions need; usage_sums.late is a view of one.
-- can_see_rows is false if row-level security might hide rows from this role, which is no error. All rows are visible if a
-- permissive policy for SELECT with the expression "true" names PUBLIC or this role itself, and each restrictive policy
-- for PUBLIC, this role or a role that it is a member of has this expression too.
-- wrong_types lists, with their types, numbers that are neither integer nor bigint, times that are not timestamptz,
-- references to accounts that are not uuid, texts that are not text or varchar, and columns that are absent, or is null.
WITH needed (table_name, columns) AS (
    VALUES
    ('account_api_keys', ARRAY['account', 'key_hash', 'expires_at']),
    ('account_emails', ARRAY['account_id', 'email', 'updated_at']),
    ('account_organization_ids', ARRAY['account_id', 'organization_id']),
    ('accounts', ARRAY['id', 'name']),
    ('credit_grants', ARRAY[
        'id', 'account_id', 'granted_by', 'reason', 'previous_credits', 'remaining_credits', 'created_at'
    ]),
    ('usage_events', ARRAY[
        'id', 'account_id', 'source', 'agent_type', 'provider', 'model_id', 'input_tokens', 'cached_input_tokens',
        'output_tokens', 'tool_call_count', 'created_at', :'credits_column'::text
    ]),
    ('usage_sums.days', ARRAY['account_id', 'day', 'credits_deducted_cents', 'event_count']),
    ('usage_sums.accounts', ARRAY['window_id', 'account_id', 'credits_deducted_cents', 'event_count']),
    ('usage_sums.keys', ARRAY[
        'day', 'model_id', 'provider', 'source', 'agent_type', 'credits_deducted_cents', 'event_count', 'input_tokens',
        'cached_input_tokens', 'output_tokens', 'tool_call_count'
    ]),
    ('usage_sums.late', ARRAY[
        'sign', 'account_id', 'created_at', 'model_id', 'provider', 'source', 'agent_type', 'credits_deducted_cents',
        'input_tokens', 'cached_input_tokens', 'output_tokens', 'tool_call_count'
    ])
)

SELECT
    needed.table_name,
    relation.oid IS NOT NULL AS is_present,
    coalesce(
        has_schema_privilege(relation.relnamespace, 'USAGE') AND (
            SELECT count(*) = cardinality(needed.columns)
            FROM pg_catalog.pg_attribute
            WHERE pg_attribute.attrelid = relation.oid
                AND pg_attribute.attname = ANY(needed.columns)
                AND has_column_privilege(relation.oid, pg_attribute.attnum, 'SELECT')
        ) AND (
            schema.nspname = 'public'
            OR (
                SELECT count(*) = 5 FROM pg_catalog.pg_proc
                WHERE pronamespace = schema.oid
                    AND proname IN ('columns', 'cover', 'obstacle', 'token', 'unusable')
                    AND (proname NOT IN ('cover', 'unusable') OR has_function_privilege(oid, 'EXECUTE'))
            ) AND num_nulls(
                to_regclass('usage_sums.ledger'), to_regclass('usage_sums.watermark'), to_regclass('usage_sums.windows')
            ) = 0
        ),
        false
    ) AS can_read,
    coalesce(
        NOT relation.relrowsecurity
        -- its owner or a superuser; BYPASSRLS does not count, because it can be taken away without a trace
        OR (pg_has_role(relation.relowner, 'USAGE') AND NOT row_security_active(relation.oid))
        OR (
            SELECT
                bool_or(policy.is_permissive AND policy.shows_all AND policy.names_role)
                AND NOT bool_or(NOT policy.is_permissive AND NOT policy.shows_all AND policy.concerns_role)
            FROM (
                SELECT
                    polpermissive AS is_permissive,
                    -- pg_get_expr would wait for a lock on the table if it were named
                    CASE WHEN starts_with(polqual::text, '{CONST ') THEN pg_get_expr(polqual, 0) = 'true' ELSE false END
                        AS shows_all,
                    -- 0 is PUBLIC
                    0 = ANY(polroles) OR quote_ident(current_user)::regrole = ANY(polroles) AS names_role,
                    (
                        SELECT bool_or(role = 0 OR pg_has_role(role, 'MEMBER')) FROM unnest(polroles) AS role
                    ) AS concerns_role
                FROM pg_catalog.pg_policy
                WHERE polrelid = relation.oid AND polcmd IN ('r', '*')
            ) AS policy
        ),
        false
    ) AS can_see_rows,
    (
        SELECT
            string_agg(
                concat_ws(' ', wanted.name, coalesce(format_type(actual.atttypid, actual.atttypmod), 'absent')), ', '
                ORDER BY wanted.name ASC
            )
        FROM unnest(needed.columns) AS wanted (name)
        LEFT JOIN pg_catalog.pg_attribute AS actual ON actual.attrelid = relation.oid AND actual.attname = wanted.name
        WHERE relation.oid IS NOT NULL
            AND CASE
                WHEN actual.attname IS NULL THEN true
                -- sums.sql has made them
                WHEN schema.nspname = 'usage_sums' THEN false
                WHEN actual.attname ~ '_at$' THEN actual.atttypid <> 'timestamptz'::regtype
                WHEN actual.attname IN ('account', 'account_id', 'organization_id', 'granted_by')
                    THEN actual.atttypid <> 'uuid'::regtype
                WHEN concat(needed.table_name, '.', actual.attname)
                    ~ '[.](name|email|key_hash|reason|source|agent_type|provider|model_id)$|^usage_events[.]id$'
                    THEN actual.atttypid NOT IN ('text'::regtype, 'varchar'::regtype)
                WHEN actual.attname ~ '^(credits_deducted|credits_deducted_cents|.*_credits|.*_tokens|.*_count)$'
                    THEN actual.atttypid NOT IN ('integer'::regtype, 'bigint'::regtype)
            END
    ) AS wrong_types
FROM needed
LEFT JOIN pg_catalog.pg_namespace AS schema
    ON schema.nspname = CASE WHEN starts_with(needed.table_name, 'usage_sums.') THEN 'usage_sums' ELSE 'public' END
LEFT JOIN pg_catalog.pg_class AS relation
    ON relation.relname = replace(needed.table_name, 'usage_sums.', '') AND relation.relnamespace = schema.oid
        AND (relation.relkind IN ('r', 'p') OR (relation.relkind = 'v' AND needed.table_name = 'usage_sums.late'))
WHERE :'spend_source'::text IN ('sums', 'auto') OR NOT starts_with(needed.table_name, 'usage_sums.')
ORDER BY needed.table_name ASC;
