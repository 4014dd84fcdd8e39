-- As in production: enabled on every table, without policies, so an ordinary role sees no rows.

ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.account_emails ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.account_api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.account_organization_ids ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credits_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_grants ENABLE ROW LEVEL SECURITY;
