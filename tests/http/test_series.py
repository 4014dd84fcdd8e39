"""The series by hand, and its bounds; the laws are in tests/sql/test_laws.py."""

from flask.testing import FlaskClient

from conftest import NOVA, Tables, answered

SERIES = "/api/admins/credits/series"


def test_the_whole_answer_and_the_csv(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    # a Sunday, and the Monday after it
    tables.event(NOVA, 3, "2026-11-15 23:59:59.999999+00", model_id="large", provider="acme")
    tables.event(NOVA, 4, "2026-11-16 00:00:00+00", model_id="small", provider="acme")
    tables.event(NOVA, 2, "2026-11-17 09:00:00+00", provider="acme")
    tables.event(NOVA, 9, "2026-11-17 09:00:00+00", model_id="large")
    query = f"since=2026-11-12&provider=acme&by=model&bucket=week&top=1&account_id={NOVA}"
    assert admin.get(f"{SERIES}?{query}").text == (
        '{"status":"success","period":"custom","provider":"acme","by":"model","bucket":"week","top":1,'
        f'"account_id":"{NOVA}","total_count":3,"rows":['
        '{"start":"2026-11-09T00:00:00.000000+00:00","key":null,"rest":true,'
        '"total_credits_deducted_cents":3,"event_count":1},'
        '{"start":"2026-11-16T00:00:00.000000+00:00","key":"small","rest":false,'
        '"total_credits_deducted_cents":4,"event_count":1},'
        '{"start":"2026-11-16T00:00:00.000000+00:00","key":null,"rest":true,'
        '"total_credits_deducted_cents":2,"event_count":1}]}\n'
    )
    assert admin.get(f"{SERIES}?{query}", headers={"Accept": "text/csv"}).text == (
        "start,key,rest,total_credits_deducted_cents,event_count\r\n"
        "2026-11-09T00:00:00.000000+00:00,,true,3,1\r\n"
        "2026-11-16T00:00:00.000000+00:00,small,false,4,1\r\n"
        "2026-11-16T00:00:00.000000+00:00,,true,2,1\r\n"
    )


def test_more_than_20000_rows_are_a_400_that_names_a_larger_bucket(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    tables.execute(
        "INSERT INTO public.usage_events (id, account_id, model_id, created_at) "
        "SELECT day || ' ' || key, %s, key::text, timestamptz '2026-11-01 00:00:00+00' - day * interval '1 day' "
        "FROM generate_series(1, 1000) AS day, generate_series(1, 20) AS key",
        (str(NOVA),),
    )
    query = {"period": "all", "by": "model", "top": "20"}
    assert answered(admin, SERIES, **query)["total_count"] == 20_000
    tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
    refused = admin.get(SERIES, query_string=query)
    assert (refused.status_code, refused.get_json()["missing_fields"]) == (400, ["bucket"])
    assert answered(admin, SERIES, **query, bucket="week")["total_count"] < 20_000
    # hours of two weeks, to the microsecond
    answered(admin, SERIES, since="2026-11-08T10:15:00Z", bucket="hour")
