-- The production tables that the service reads, for the embedded and the test database only. Another team owns the
-- production database: never run this file there.

CREATE TABLE public.accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text
);

CREATE TABLE public.account_emails (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid REFERENCES public.accounts (id) ON DELETE CASCADE,
    email text UNIQUE,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.account_api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    account uuid REFERENCES public.accounts (id),
    key_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);

CREATE TABLE public.account_organization_ids (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid REFERENCES public.accounts (id),
    organization_id uuid REFERENCES public.accounts (id)
);

CREATE TABLE public.usage_events (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE,
    source text NOT NULL DEFAULT 'web' CHECK (source IN ('web', 'api')),
    agent_type text NOT NULL DEFAULT 'main' CHECK (agent_type IN ('main', 'subagent')),
    provider text,
    model_id text,
    input_tokens integer NOT NULL DEFAULT 0,
    cached_input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    tool_call_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- integer in old databases; the tests use both types
    credits_deducted_cents bigint NOT NULL DEFAULT 0
);

CREATE INDEX usage_events_account_id_created_at_idx ON public.usage_events (account_id, created_at);
CREATE INDEX usage_events_model_id_idx ON public.usage_events (model_id) WHERE model_id IS NOT NULL;

CREATE TABLE public.credits_usage (
    account_id uuid NOT NULL,
    remaining_credits bigint NOT NULL DEFAULT 0,
    "timestamp" timestamptz DEFAULT now()
);

CREATE TABLE public.credit_grants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES public.accounts (id),
    granted_by uuid NOT NULL REFERENCES public.accounts (id),
    reason text NOT NULL,
    previous_credits bigint,
    remaining_credits bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX credit_grants_account_id_created_at_idx ON public.credit_grants (account_id, created_at DESC);
