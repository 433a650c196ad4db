using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>A policy: its limiter, and what its headers say. Source: draft-ietf-httpapi-ratelimit-headers-10, in the structured fields of RFC 9651.</summary>
internal sealed class Policy(string name, KeyedRateLimiter<HttpContext> limiter)
{
    private readonly string _quoted = Quoted(name);
    private Quota? _quota;

    public string Name => name;

    public KeyedRateLimiter<HttpContext> Limiter => limiter;

    /// <summary>An item of <c>RateLimit-Policy</c>: the quota, and the seconds in which it comes back.</summary>
    public string QuotaOf(HttpContext context)
    {
        IReadOnlyList<RateLimit> limits = limiter.LimitsOf(context);
        Quota? quota = _quota;
        if (quota is null || !ReferenceEquals(quota.Limits, limits))
        {
            _quota = quota = new Quota(limits, QuotaText(limits));
        }

        return quota.Text;
    }

    /// <summary>An item of <c>RateLimit</c>: what remains, and in how many seconds it is whole again, or when the refused one may come back.</summary>
    public string StateOf(in RateLimitDecision decision)
    {
        long remaining = Math.Max(0, decision.Remaining);
        return !decision.IsAdmitted && decision.RetryAfter == Timeout.InfiniteTimeSpan
            ? string.Create(CultureInfo.InvariantCulture, $"{_quoted};r={remaining}")
            : string.Create(CultureInfo.InvariantCulture, $"{_quoted};r={remaining};t={(decision.IsAdmitted ? Seconds(decision.ResetAfter) : RetryAfterSeconds(decision))}");
    }

    public static long RetryAfterSeconds(in RateLimitDecision decision) => Math.Max(1, Seconds(decision.RetryAfter));

    private static long Seconds(TimeSpan time) => (time.Ticks / TimeSpan.TicksPerSecond) + (time.Ticks % TimeSpan.TicksPerSecond > 0 ? 1 : 0);

    /// <summary>Of several limits the one that admits the least at once.</summary>
    private string QuotaText(IReadOnlyList<RateLimit> limits)
    {
        RateLimit least = limits.MinBy(Burst)!;
        double seconds = Math.Max(1, Math.Ceiling(Burst(least) * (double)least.Period.Ticks / (least.Permits * TimeSpan.TicksPerSecond)));
        return string.Create(CultureInfo.InvariantCulture, $"{_quoted};q={Burst(least)};w={(long)seconds}");
    }

    private static long Burst(RateLimit limit) => limit.Burst ?? Math.Max(1, (long)Math.Ceiling(limit.Permits));

    /// <summary>As a string of RFC 9651, section 3.3.3, which knows printable ASCII only; anything else becomes a question mark.</summary>
    private static string Quoted(string name)
    {
        var quoted = new StringBuilder("\"");
        foreach (char c in name)
        {
            quoted.Append(c is '"' or '\\' ? "\\" : "").Append(c is >= ' ' and <= '~' ? c : '?');
        }

        return quoted.Append('"').ToString();
    }

    private sealed record Quota(IReadOnlyList<RateLimit> Limits, string Text);
}
