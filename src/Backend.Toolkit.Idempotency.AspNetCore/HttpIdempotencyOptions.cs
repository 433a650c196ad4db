using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>How keys are read from requests, what of a request and a response counts, and how refusals look.</summary>
public sealed class HttpIdempotencyOptions
{
    /// <summary>What is longer is no duration that a timer can count.</summary>
    private static TimeSpan LongestRun { get; } = TimeSpan.FromDays(1);

    /// <summary>Of the connection or of one answer, not of the outcome; or set anew for each answer.</summary>
    private static HashSet<string> NeverReplayed { get; } = new(StringComparer.OrdinalIgnoreCase)
    {
        "Set-Cookie", "Date", "Server", "Content-Length", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    };

    /// <summary>Begins every problem sentence. Not empty; default <c>http</c>.</summary>
    public string Name { get; set; } = "http";

    /// <summary>The header with the key. A header's name; default <c>Idempotency-Key</c>.</summary>
    public string HeaderName { get; set; } = "Idempotency-Key";

    /// <summary>Takes a key only as the string of RFC 9651 that the draft asks for, in quotes; otherwise also bare, such as a GUID, with the same meaning. Default false.</summary>
    public bool StrictKeys { get; set; }

    /// <summary>In whose form refusals are answered. Default <see cref="IdempotencyProfile.Draft"/>.</summary>
    public IdempotencyProfile Profile { get; set; } = IdempotencyProfile.Draft;

    /// <summary>Your own page on idempotency: the <c>type</c> of problems, with the code as fragment. An absolute URI; default null: the draft.</summary>
    public string? DocumentationUrl { get; set; }

    /// <summary>Whether requests of nobody in particular have keys too, which all of these then share. Default false: they are answered 401.</summary>
    public bool AllowAnonymous { get; set; }

    /// <summary>
    /// Who asks: keys of different subjects never meet. Null or empty: nobody in particular. Default null: the name identifier of the authenticated user (or <c>sub</c>, or the name), with its issuer.
    /// </summary>
    public Func<HttpContext, string?>? Subject { get; set; }

    /// <summary>The longest request body, in bytes; a longer one is answered 413. 0 to 2 GiB; default 1 048 576.</summary>
    public long MaxRequestBodyBytes { get; set; } = 1_048_576;

    /// <summary>How much of a request body, and of a response that waits for its commit, is held in memory; the rest is in a temporary file. 0 to 1 MiB; default 65 536.</summary>
    public int MaxBytesInMemory { get; set; } = 65_536;

    /// <summary>
    /// How long a handler may run before <see cref="HttpContext.RequestAborted"/> is cancelled, as nobody's leaving cancels it. Above 0, at most 1 day, or <see cref="Timeout.InfiniteTimeSpan"/>;
    /// default 5 min.
    /// </summary>
    public TimeSpan MaxRunTime { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>What is left of the server's budget for the request, asked when the handler is about to run, which it bounds. Null: no other bound. When it throws, there is none. Default null.</summary>
    public Func<HttpContext, TimeSpan?>? TimeLeft { get; set; }

    /// <summary>The headers that a replay has too. Never <c>Set-Cookie</c>, <c>Date</c>, or those of the connection.</summary>
    public IList<string> ReplayedHeaders { get; } =
    [
        "Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Location", "Location", "ETag", "Last-Modified", "Cache-Control", "Expires", "Vary", "Link",
        "Retry-After", "Deprecation", "Sunset",
    ];

    /// <summary>Responses that say that nothing was done: the key is given back. Default 401, 403, 408, 409, 425, 429.</summary>
    public IList<int> AbandonedStatusCodes { get; } = [401, 403, 408, 409, 425, 429];

    /// <summary>Responses that are stored beside 2xx, 3xx and 4xx, such as 500 where a failed request must not run again. Default none.</summary>
    public IList<int> StoredStatusCodes { get; } = [];

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrWhiteSpace(Name))
        {
            yield return Problem(nameof(Name), "not empty", $"'{Name}'");
        }

        if (!IsHeaderName(HeaderName))
        {
            yield return Problem(nameof(HeaderName), "the name of a header", $"'{HeaderName}'");
        }

        if (!Enum.IsDefined(Profile))
        {
            yield return Problem(nameof(Profile), "Draft or Stripe", Profile);
        }

        if (DocumentationUrl is not null && !Uri.TryCreate(DocumentationUrl, UriKind.Absolute, out _))
        {
            yield return Problem(nameof(DocumentationUrl), "null or an absolute URI", $"'{DocumentationUrl}'");
        }

        if (MaxRequestBodyBytes is < 0 or > int.MaxValue)
        {
            yield return Problem(nameof(MaxRequestBodyBytes), "between 0 and 2147483647", MaxRequestBodyBytes);
        }

        if (MaxBytesInMemory is < 0 or > 1_048_576)
        {
            yield return Problem(nameof(MaxBytesInMemory), "between 0 and 1048576", MaxBytesInMemory);
        }

        if (MaxRunTime != Timeout.InfiniteTimeSpan && (MaxRunTime <= TimeSpan.Zero || MaxRunTime > LongestRun))
        {
            yield return Problem(nameof(MaxRunTime), "greater than 0 and at most 1.00:00:00, or Timeout.InfiniteTimeSpan (-00:00:00.0010000)", MaxRunTime);
        }

        foreach (string header in ReplayedHeaders.Where(header => !IsHeaderName(header) || NeverReplayed.Contains(header)))
        {
            yield return Problem(nameof(ReplayedHeaders), "names of headers of the outcome, neither Set-Cookie nor Date nor of the connection", $"'{header}'");
        }

        foreach (int status in AbandonedStatusCodes.Concat(StoredStatusCodes).Where(status => status is < 200 or > 599))
        {
            yield return Problem("a status code", "between 200 and 599", status);
        }

        foreach (int status in AbandonedStatusCodes.Intersect(StoredStatusCodes))
        {
            yield return Problem(nameof(StoredStatusCodes), "none of AbandonedStatusCodes", status);
        }
    }

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name, GetType(), problems);
        }
    }

    private static bool IsHeaderName(string? name) => !string.IsNullOrEmpty(name) && name.All(c => char.IsAsciiLetterOrDigit(c) || "!#$%&'*+-.^_`|~".Contains(c, StringComparison.Ordinal));

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrWhiteSpace(Name) ? GetType().Name : Name)}: {property} must be {rule}, but is {value}.");
}
