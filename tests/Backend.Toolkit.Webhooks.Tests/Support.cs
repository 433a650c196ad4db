using System.Buffers;
using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

/// <summary>Headers by name, whatever its case.</summary>
internal sealed class Headers() : Dictionary<string, string>(StringComparer.OrdinalIgnoreCase)
{
    public static Func<Headers, string, string?> Read { get; } = static (headers, name) => headers.GetValueOrDefault(name);

    public static WebhookHeaderWriter<Headers> Write { get; } = static (headers, name, value) => headers[name] = value.ToString();
}

/// <summary>Messages of every scheme, at one time, without the code that is tested.</summary>
internal static class Sample
{
    public const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    public const string Id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    public const long Seconds = 1614265330;

    public static DateTimeOffset Now { get; } = DateTimeOffset.FromUnixTimeSeconds(Seconds);

    public static byte[] Body { get; } = Encoding.UTF8.GetBytes("""{"test": 2432232314}""");

    public static WebhookScheme[] Schemes { get; } = [WebhookScheme.StandardWebhooks, WebhookScheme.Stripe, WebhookScheme.GitHub, WebhookScheme.Slack, WebhookScheme.Shopify];

    public static FakeTimeProvider Time() => new(Now);

    public static WebhookVerifier Verifier(WebhookScheme scheme, TimeProvider time, params string[] secrets) => new(VerifierOptions(scheme, secrets), time);

    public static WebhookVerifierOptions VerifierOptions(WebhookScheme scheme, params string[] secrets)
    {
        var options = new WebhookVerifierOptions { Name = "test", Scheme = scheme };
        foreach (string secret in secrets)
        {
            options.Keys.Add(new WebhookKey(secret));
        }

        return options;
    }

    public static WebhookSigner Signer(WebhookScheme scheme, TimeProvider time, params string[] secrets) => new(SignerOptions(scheme, secrets), time);

    public static WebhookSignerOptions SignerOptions(WebhookScheme scheme, params string[] secrets)
    {
        var options = new WebhookSignerOptions { Name = "test", Scheme = scheme };
        foreach (string secret in secrets)
        {
            options.Keys.Add(new WebhookKey(secret));
        }

        return options;
    }

    public static Headers Signed(this WebhookSigner signer, ReadOnlySpan<byte> body, string? id = Id, DateTimeOffset? timestamp = null)
    {
        var headers = new Headers();
        signer.Sign(headers, Headers.Write, id, body, timestamp);
        return headers;
    }

    public static WebhookVerification Verify(this WebhookVerifier verifier, Headers headers, ReadOnlySpan<byte> body) => verifier.Verify(headers, Headers.Read, body);

    /// <summary>Standard Webhooks, signed by hand.</summary>
    public static string Mac(string secret, string id, long seconds, byte[] body) =>
        Convert.ToBase64String(HMACSHA256.HashData(Convert.FromBase64String(secret["whsec_".Length..]), (byte[])[.. Encoding.UTF8.GetBytes($"{id}.{seconds}."), .. body]));

    public static Headers Standard(string signatures, string id = Id, string timestamp = "1614265330") => new()
    {
        ["webhook-id"] = id,
        ["webhook-timestamp"] = timestamp,
        ["webhook-signature"] = signatures,
    };

    public static ReadOnlySequence<byte> Segmented(byte[] body, int length)
    {
        Segment? first = null, last = null;
        for (int at = 0; at < body.Length || first is null; at += length)
        {
            last = new Segment(body.AsMemory(at, Math.Min(length, body.Length - at)), last);
            first ??= last;
        }

        return new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, Segment? previous)
        {
            Memory = memory;
            if (previous is not null)
            {
                RunningIndex = previous.RunningIndex + previous.Memory.Length;
                previous.Next = this;
            }
        }
    }
}

internal sealed record Entry(LogLevel Level, int Id, string Message);

/// <summary>Keeps what is logged, by all categories of a host or by one object.</summary>
internal sealed class LogList : ILogger<WebhookVerifier>, ILogger<WebhookSigner>, ILogger<WebhookReplayGuard>, ILoggerProvider
{
    private readonly ConcurrentQueue<Entry> _entries = [];

    public Entry[] Entries => [.. _entries];

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        _entries.Enqueue(new Entry(logLevel, eventId.Id, formatter(state, exception)));

    public ILogger CreateLogger(string categoryName) =>
        categoryName.StartsWith("Backend.Toolkit.", StringComparison.Ordinal) ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

    public void Dispose()
    {
    }
}

/// <summary>Listens to the meter for one name, until disposed.</summary>
internal sealed class Metrics : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<string> _seen = [];

    public Metrics(string name)
    {
        _listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.Webhooks")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, _, tags, _) =>
        {
            string? of = null, result = null;
            foreach (KeyValuePair<string, object?> tag in tags)
            {
                of = tag.Key == "name" ? (string?)tag.Value : of;
                result = tag.Key == "result" ? (string?)tag.Value : result;
            }

            if (of == name)
            {
                _seen.Enqueue($"{instrument.Name.Split('.')[^1]} {result}".Trim());
            }
        });
        _listener.Start();
    }

    public string[] Seen => [.. _seen];

    public void Dispose() => _listener.Dispose();
}

/// <summary>Tests that turn telemetry on, or that need it off, do not run beside each other.</summary>
[CollectionDefinition("The meter", DisableParallelization = true)]
public sealed class MeterCollection;
