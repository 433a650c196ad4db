using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Http.Tests;

internal static class Eventually
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>Waits for what other threads are about to do.</summary>
    public static void BeTrue(Func<bool> condition, string because) => SpinWait.SpinUntil(condition, Patience).Should().BeTrue(because);

    /// <summary>A task that hangs fails its test instead of the run.</summary>
    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(Patience);

    public static Task Soon(this Task task) => task.WaitAsync(Patience);
}

/// <summary>A fake clock that notes the waits between attempts and, when told to, lets them pass at once.</summary>
internal sealed class WaitTime : FakeTimeProvider
{
    public List<TimeSpan> Waits { get; } = [];

    public bool PassesAtOnce { get; set; }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        ITimer timer = base.CreateTimer(callback, state, dueTime, period);

        // The timer of the deadlines is made without a time.
        if (dueTime != Timeout.InfiniteTimeSpan)
        {
            Waits.Add(dueTime);
            if (PassesAtOnce)
            {
                Advance(dueTime);
            }
        }

        return timer;
    }
}

/// <summary>Keeps what is logged, by all categories of a host or by one policy.</summary>
internal sealed class LogList : ILogger<OutboundPolicy>, ILoggerProvider
{
    public ConcurrentQueue<(LogLevel Level, string Text)> Entries { get; } = new();

    public string[] Texts => [.. Entries.Select(entry => entry.Text)];

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        Entries.Enqueue((logLevel, formatter(state, exception)));

    public ILogger CreateLogger(string categoryName) =>
        categoryName == typeof(OutboundPolicy).FullName ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

    public void Dispose()
    {
    }
}

/// <summary>A response that tells whether it was disposed.</summary>
internal sealed class Reply : HttpResponseMessage
{
    public Reply(int status, params (string Name, string Value)[] headers)
        : base((System.Net.HttpStatusCode)status)
    {
        foreach ((string name, string value) in headers)
        {
            Headers.TryAddWithoutValidation(name, value).Should().BeTrue();
        }
    }

    public bool IsDisposed { get; private set; }

    protected override void Dispose(bool disposing)
    {
        IsDisposed = true;
        base.Dispose(disposing);
    }
}

/// <summary>One request as it arrived.</summary>
internal sealed record Arrival(HttpMethod Method, Uri Uri, IReadOnlyDictionary<string, string[]> Headers, byte[]? Body)
{
    public string? Header(string name) => Headers.TryGetValue(name, out string[]? values) ? values.Should().ContainSingle().Subject : null;
}

/// <summary>The other side, in memory: notes each request, and answers as told.</summary>
internal sealed class Server : HttpMessageHandler
{
    private readonly Lock _gate = new();
    private readonly List<Arrival> _arrivals = [];
    private readonly List<HttpResponseMessage> _replies = [];
    private int _inFlight;

    /// <summary>Gets the number of the request, from 1.</summary>
    public Func<int, HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> Answer { get; set; } = static (_, _, _) => Task.FromResult<HttpResponseMessage>(new Reply(200));

    public Arrival[] Arrivals
    {
        get
        {
            lock (_gate)
            {
                return [.. _arrivals];
            }
        }
    }

    public Reply[] Replies
    {
        get
        {
            lock (_gate)
            {
                return [.. _replies.Cast<Reply>()];
            }
        }
    }

    public int Count => Arrivals.Length;

    public int MostAtTheSameTime { get; private set; }

    /// <summary>The last status holds for all that follow.</summary>
    public void Answers(params int[] statuses) => Answer = (number, _, _) =>
        Task.FromResult<HttpResponseMessage>(new Reply(statuses[Math.Min(number, statuses.Length) - 1]));

    public void Answers(Func<int, HttpResponseMessage> reply) => Answer = (number, _, _) => Task.FromResult(reply(number));

    public void Hangs() => Answer = static (_, _, token) => Hang(token);

    public static async Task<HttpResponseMessage> Hang(CancellationToken token)
    {
        var never = new TaskCompletionSource<HttpResponseMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        using CancellationTokenRegistration registration = token.Register(() => never.TrySetCanceled(token));
        return await never.Task;
    }

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            MostAtTheSameTime = Math.Max(MostAtTheSameTime, ++_inFlight);
        }

        try
        {
            byte[]? body = null;
            if (request.Content is not null)
            {
                // Not ReadAsByteArrayAsync: that would buffer the content, and make any content fit to be sent twice.
                using var copy = new MemoryStream();
                await request.Content.CopyToAsync(copy, cancellationToken);
                body = copy.ToArray();
            }

            int number;
            lock (_gate)
            {
                _arrivals.Add(new Arrival(
                    request.Method, request.RequestUri!,
                    request.Headers.NonValidated.ToDictionary(header => header.Key, header => header.Value.ToArray(), StringComparer.OrdinalIgnoreCase), body));
                number = _arrivals.Count;
            }

            HttpResponseMessage response = await Answer(number, request, cancellationToken);
            response.RequestMessage ??= request;
            lock (_gate)
            {
                _replies.Add(response);
            }

            return response;
        }
        finally
        {
            lock (_gate)
            {
                _inFlight--;
            }
        }
    }
}

/// <summary>A policy before a server in memory, under a fake clock. Retries do not wait unless the test says so.</summary>
internal sealed class Outbound : IDisposable
{
    private readonly HttpMessageInvoker _invoker;

    public Outbound(Action<OutboundPolicyOptions>? set = null, TimeProvider? time = null, HttpMessageHandler? primary = null)
    {
        Policy = new OutboundPolicy(Options(set), time ?? Time, Logs);
        _invoker = new HttpMessageInvoker(new OutboundPolicyHandler(Policy) { InnerHandler = primary ?? Server });
    }

    public static string Url => "http://payments/orders";

    public WaitTime Time { get; } = new();

    public LogList Logs { get; } = new();

    public Server Server { get; } = new();

    public OutboundPolicy Policy { get; }

    public static OutboundPolicyOptions Options(Action<OutboundPolicyOptions>? set = null)
    {
        var options = new OutboundPolicyOptions { Name = "shop" };
        options.Retry!.BaseDelay = TimeSpan.Zero;
        set?.Invoke(options);
        return options;
    }

    public static HttpRequestMessage Request(string method = "GET", HttpContent? content = null, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(new HttpMethod(method), Url) { Content = content };
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return request;
    }

    /// <summary>Not awaited under a limit: most tests are single-threaded to their end, and all others say <see cref="Eventually.Soon{T}"/>.</summary>
    public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken = default) => _invoker.SendAsync(request, cancellationToken);

    public Task<HttpResponseMessage> GetAsync(CancellationToken cancellationToken = default) => SendAsync(Request(), cancellationToken);

    public Task<HttpResponseMessage> GetAsync(string url) => SendAsync(new HttpRequestMessage(HttpMethod.Get, url));

    public void Dispose()
    {
        _invoker.Dispose();
        Policy.Dispose();
    }
}

/// <summary>Listens to the meter for one name, until disposed.</summary>
internal sealed class Metrics : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<string> _outcomes = new();

    public Metrics(string name)
    {
        _listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Name == "backend.toolkit.http.calls")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((_, value, tags, _) =>
        {
            var all = tags.ToArray().ToDictionary(tag => tag.Key, tag => tag.Value);
            if (Equals(all["name"], name))
            {
                (value, all.Count).Should().Be((1, 2));
                _outcomes.Enqueue((string)all["outcome"]!);
            }
        });
        _listener.Start();
    }

    public string[] Outcomes => [.. _outcomes];

    public void Dispose() => _listener.Dispose();
}
