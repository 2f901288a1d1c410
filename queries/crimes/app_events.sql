-- Lists of nested app events, a list in each record: every event becomes a line of its own, its members under flat names
-- such as "eventContext.device.os". Over any form of connections.
--   headwater run queries/crimes/{aws,tables,app_events}.sql --param lake=s3://bucket

INSERT INTO app_events_flat
SELECT
    "eventId",
    "eventName",
    "eventTime",
    "eventContext".ip,
    "eventContext".app.name,
    "eventContext".app.version,
    "eventContext".device.os,
    "eventContext".device.locale,
    "eventPayload".screen,
    "eventPayload"."durationMs"
FROM app_events;
