-- The rows of the examples in sql/README.md.

INSERT INTO public.accounts (id, name) VALUES
('3c90c3cc-0d44-4b50-8888-8dd25736052a', 'Nova Records'),
('7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'Orbit Labs'),
-- neither name nor address
('b2a6f0de-1111-4222-8333-444455556666', NULL);

INSERT INTO public.account_emails (account_id, email, updated_at) VALUES
('3c90c3cc-0d44-4b50-8888-8dd25736052a', 'old@nova.example', '2025-03-01 00:00:00+00'),
('3c90c3cc-0d44-4b50-8888-8dd25736052a', 'ops@nova.example', '2026-06-01 00:00:00+00'),
('7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'team@orbit.example', '2026-01-15 00:00:00+00');

INSERT INTO public.usage_events (
    id, account_id, source, agent_type, provider, model_id, input_tokens, output_tokens, created_at,
    credits_deducted_cents
) VALUES
-- before the window
('evt-1', '3c90c3cc-0d44-4b50-8888-8dd25736052a', 'web', 'main', 'acme', 'large', 9, 9, '2026-11-15 23:59:59+00', 999),
('evt-2', '3c90c3cc-0d44-4b50-8888-8dd25736052a', 'web', 'main', 'acme', 'large', 800, 340, '2026-11-16 00:00+00', 120),
('evt-3', '3c90c3cc-0d44-4b50-8888-8dd25736052a', 'api', 'subagent', NULL, NULL, 80, 20, '2026-11-18 09:30+00', 20),
('evt-4', '3c90c3cc-0d44-4b50-8888-8dd25736052a', 'api', 'main', 'acme', 'large', 5000, 90, '2026-11-18 09:30+00', 410),
('evt-5', '7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'web', 'main', 'acme', 'small', 700, 60, '2026-11-17 14:00+00', 75),
('evt-6', '7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'web', 'main', 'acme', 'small', 900, 80, '2026-11-18 08:00+00', 25),
-- an event of 0 credits counts too
('evt-7', 'b2a6f0de-1111-4222-8333-444455556666', 'web', 'main', NULL, NULL, 10, 0, '2026-11-17 08:00+00', 0);

INSERT INTO public.credit_grants (
    id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at
) VALUES
(
    '00000000-0000-4000-8000-000000000001', '3c90c3cc-0d44-4b50-8888-8dd25736052a',
    '7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'welcome', NULL, 5000, '2026-11-16 12:00+00'
),
(
    '00000000-0000-4000-8000-000000000002', '7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60',
    '7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 'apology', 10, 1000, '2026-11-17 12:00+00'
);

INSERT INTO public.credits_usage (account_id, remaining_credits, "timestamp") VALUES
-- 5000 - 20 - 410 - 55: 55 credits without an event
('3c90c3cc-0d44-4b50-8888-8dd25736052a', 4515, '2026-11-18 09:31+00'),
-- 1000 - 75 - 25
('7f1d2a90-55c1-4e0e-9a37-1b2c3d4e5f60', 900, '2026-11-18 08:01+00');
