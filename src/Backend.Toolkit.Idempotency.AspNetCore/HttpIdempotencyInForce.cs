using System.Collections.Frozen;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>The options as they are for the next request.</summary>
internal sealed class HttpIdempotencyInForce
{
    private volatile Settings _settings;

    public HttpIdempotencyInForce(HttpIdempotencyOptions options)
    {
        options.ThrowIfInvalid();
        _settings = new Settings(options);
    }

    public Settings Current => _settings;

    public void Update(HttpIdempotencyOptions options) => _settings = new Settings(options);

    /// <summary>The options as they were when they came into force.</summary>
    internal sealed class Settings(HttpIdempotencyOptions options)
    {
        private const string Draft = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07#section-2.7";

        private readonly FrozenSet<int> _abandoned = options.AbandonedStatusCodes.ToFrozenSet();
        private readonly FrozenSet<int> _stored = options.StoredStatusCodes.ToFrozenSet();

        public string HeaderName { get; } = options.HeaderName;

        public bool StrictKeys { get; } = options.StrictKeys;

        public IdempotencyProfile Profile { get; } = options.Profile;

        public bool AllowAnonymous { get; } = options.AllowAnonymous;

        public Func<HttpContext, string?>? Subject { get; } = options.Subject;

        public long MaxRequestBodyBytes { get; } = options.MaxRequestBodyBytes;

        public int MaxBytesInMemory { get; } = options.MaxBytesInMemory;

        public TimeSpan MaxRunTime { get; } = options.MaxRunTime;

        public Func<HttpContext, TimeSpan?>? TimeLeft { get; } = options.TimeLeft;

        public string[] ReplayedHeaders { get; } = [.. options.ReplayedHeaders.Distinct(StringComparer.OrdinalIgnoreCase)];

        public string TypeOf(string code) => options.DocumentationUrl is { } page ? $"{page}#{code}" : Draft;

        /// <summary>499 is what those answer who believe that the client has gone: nobody's outcome.</summary>
        public Fate FateOf(int status) =>
            _abandoned.Contains(status) ? Fate.Abandoned
            : (status is >= 200 and < 500 && status != StatusCodes.Status499ClientClosedRequest) || _stored.Contains(status) ? Fate.Stored
            : Fate.Left;
    }

    /// <summary>What becomes of the key when a response has this status.</summary>
    internal enum Fate
    {
        Stored,
        Abandoned,
        Left,
    }
}
