using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>How much of what nobody has verified yet is read and held, and how long handlers run.</summary>
public sealed class WebhookReceivingOptions
{
    private static TimeSpan Longest { get; } = TimeSpan.FromDays(1);

    private static TimeSpan LongestStoreTimeout { get; } = TimeSpan.FromMinutes(1);

    private static TimeSpan LongestRetryAfter { get; } = TimeSpan.FromHours(1);

    /// <summary>Begins every problem sentence. Not empty; default <c>receiving</c>.</summary>
    public string Name { get; set; } = "receiving";

    /// <summary>The longest body, in bytes; a longer one is answered 413. 0 to 2 GiB; default 1 048 576. The server's own limit holds beside it.</summary>
    public long MaxBodyBytes { get; set; } = 1_048_576;

    /// <summary>The most bytes, over all requests of the application, of bodies that are not verified yet, in memory and in files; beyond, 503. <see cref="MaxBodyBytes"/> to 1 TiB; default 16 777 216.</summary>
    public long MaxUnverifiedBytes { get; set; } = 16_777_216;

    /// <summary>How much of a body, and of a response that waits for its commit, is held in memory; the rest of the body is in a temporary file. 0 to 1 MiB; default 65 536.</summary>
    public int MaxBytesInMemory { get; set; } = 65_536;

    /// <summary>How long a body may take to arrive; then 408, so that nobody holds for long what others need. Above 0, at most 1 day; default 30 s.</summary>
    public TimeSpan ReadTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long a handler behind a replay guard may run before <see cref="HttpContext.RequestAborted"/> is cancelled, as nobody's leaving cancels it. The guard's lease (5 min) counts where it is shorter. Above 0, at most 1 day; default 4 min.
    /// </summary>
    public TimeSpan MaxRunTime { get; set; } = TimeSpan.FromMinutes(4);

    /// <summary>
    /// How long the replay guard's store may take each time it is asked: a reservation that takes longer is answered 503, and released when it comes; the answer of a handler waits no longer for its commit. Above 0, at most
    /// 1 min; default 10 s.
    /// </summary>
    public TimeSpan StoreTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>What 503 tells as <c>Retry-After</c>. 1 s to 1 h; default 5 s.</summary>
    public TimeSpan RetryAfter { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrWhiteSpace(Name))
        {
            yield return Problem(nameof(Name), "not empty", $"'{Name}'");
        }

        if (MaxBodyBytes is < 0 or > int.MaxValue)
        {
            yield return Problem(nameof(MaxBodyBytes), "between 0 and 2147483647", MaxBodyBytes);
        }

        if (MaxUnverifiedBytes < MaxBodyBytes || MaxUnverifiedBytes > 1L << 40)
        {
            yield return Problem(nameof(MaxUnverifiedBytes), string.Create(CultureInfo.InvariantCulture, $"between MaxBodyBytes ({MaxBodyBytes}) and 1099511627776"), MaxUnverifiedBytes);
        }

        if (MaxBytesInMemory is < 0 or > 1_048_576)
        {
            yield return Problem(nameof(MaxBytesInMemory), "between 0 and 1048576", MaxBytesInMemory);
        }

        if (ReadTimeout <= TimeSpan.Zero || ReadTimeout > Longest)
        {
            yield return Problem(nameof(ReadTimeout), "greater than 0 and at most 1.00:00:00", ReadTimeout);
        }

        if (MaxRunTime <= TimeSpan.Zero || MaxRunTime > Longest)
        {
            yield return Problem(nameof(MaxRunTime), "greater than 0 and at most 1.00:00:00", MaxRunTime);
        }

        if (StoreTimeout <= TimeSpan.Zero || StoreTimeout > LongestStoreTimeout)
        {
            yield return Problem(nameof(StoreTimeout), "greater than 0 and at most 00:01:00", StoreTimeout);
        }

        if (RetryAfter < TimeSpan.FromSeconds(1) || RetryAfter > LongestRetryAfter)
        {
            yield return Problem(nameof(RetryAfter), "between 00:00:01 and 01:00:00", RetryAfter);
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

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrWhiteSpace(Name) ? GetType().Name : Name)}: {property} must be {rule}, but is {value}.");
}
