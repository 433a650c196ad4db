using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>
/// Asks each policy of the request once, in order; a refusal gives back what those before it charged. Admitted: sets the headers and the feature, and costs one object and
/// one text beyond what the limiters do. Thread-safe.
/// </summary>
internal sealed class RateLimitMiddleware(RequestDelegate next, EndpointPolicies policies, Func<HttpContext, RateLimitDecision, Task>? onRefused, ILogger? logger)
{
    public const string PolicyHeader = "RateLimit-Policy";
    public const string StateHeader = "RateLimit";

    public Task InvokeAsync(HttpContext context)
    {
        EndpointPolicies.Entry[] entries = policies.Of(context.GetEndpoint());
        if (entries.Length == 0)
        {
            return next(context);
        }

        // The application may use the middleware twice: what was charged is not charged again.
        RequestRateLimits limits = context.Features.Get<RequestRateLimits>() ?? new RequestRateLimits();
        if (limits.IsOver)
        {
            // What runs again for a request that was not let in (UseStatusCodePagesWithReExecute) makes its answer.
            return next(context);
        }

        for (int i = 0; i < entries.Length; i++)
        {
            Policy policy = entries[i].Policy;
            if (limits.Has(policy))
            {
                continue;
            }

            ValueTask<RateLimitDecision> pending = AcquireAsync(context, entries[i]);
            if (!pending.IsCompletedSuccessfully)
            {
                return FinishAsync(context, entries, i, limits, pending.AsTask());
            }

            RateLimitDecision decision = pending.Result;
            if (!decision.IsAdmitted)
            {
                return RefuseAsync(context, policy, limits, decision);
            }

            limits.Add(policy, decision);
        }

        return GoOn(context, limits);
    }

    private async Task FinishAsync(HttpContext context, EndpointPolicies.Entry[] entries, int index, RequestRateLimits limits, Task<RateLimitDecision> pending)
    {
        try
        {
            for (int i = index; i < entries.Length; i++)
            {
                Policy policy = entries[i].Policy;
                if (limits.Has(policy))
                {
                    continue;
                }

                RateLimitDecision decision = i == index ? await pending.ConfigureAwait(false) : await AcquireAsync(context, entries[i]).ConfigureAwait(false);
                if (!decision.IsAdmitted)
                {
                    await RefuseAsync(context, policy, limits, decision).ConfigureAwait(false);
                    return;
                }

                limits.Add(policy, decision);
            }
        }
        catch (Exception)
        {
            limits.GiveBack(context);
            throw;
        }

        await GoOn(context, limits).ConfigureAwait(false);
    }

    private Task GoOn(HttpContext context, RequestRateLimits limits)
    {
        context.Features.Set(limits);
        limits.WriteHeaders(context);
        return next(context);
    }

    private ValueTask<RateLimitDecision> AcquireAsync(HttpContext context, in EndpointPolicies.Entry entry)
    {
        try
        {
            return entry.Policy.Limiter.AcquireDecisionAsync(context, entry.Cost is null ? 1 : CostOf(context, entry), context.RequestAborted);
        }
        catch (Exception exception)
        {
            // Thrown at once, as by a limiter that was disposed: what others charged is given back all the same.
            return ValueTask.FromException<RateLimitDecision>(exception);
        }
    }

    private int CostOf(HttpContext context, in EndpointPolicies.Entry entry)
    {
        Exception? thrown = null;
        try
        {
            int cost = entry.Cost!(context);
            if (cost >= 0)
            {
                return cost;
            }
        }
        catch (Exception exception)
        {
            thrown = exception;
        }

        if (logger is not null)
        {
            Log.NoCost(logger, thrown, entry.Policy.Name);
        }

        return 1;
    }

    private async Task RefuseAsync(HttpContext context, Policy policy, RequestRateLimits limits, RateLimitDecision decision)
    {
        limits.GiveBack(context);
        IHeaderDictionary headers = context.Response.Headers;
        headers[PolicyHeader] = policy.QuotaOf(context);
        headers[StateHeader] = policy.StateOf(decision);
        bool isNever = decision.RetryAfter == Timeout.InfiniteTimeSpan;
        if (!isNever)
        {
            headers.RetryAfter = Policy.RetryAfterSeconds(decision).ToString(CultureInfo.InvariantCulture);
        }

        context.Response.StatusCode = StatusCodes.Status429TooManyRequests;
        if (onRefused is not null)
        {
            try
            {
                await onRefused(context, decision).ConfigureAwait(false);
                return;
            }
            catch (Exception exception) when (!context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
            {
                if (logger is not null)
                {
                    Log.OnRefusedThrew(logger, exception, policy.Name);
                }
            }
        }

        await new ProblemAnswer(StatusCodes.Status429TooManyRequests, "Too Many Requests", "https://tools.ietf.org/html/rfc6585#section-4", isNever
            ? "The request costs more than its rate limit ever admits at once."
            : string.Create(CultureInfo.InvariantCulture, $"The rate limit is used up. Come back in {Policy.RetryAfterSeconds(decision)} s.")).WriteAsync(context).ConfigureAwait(false);
    }
}
