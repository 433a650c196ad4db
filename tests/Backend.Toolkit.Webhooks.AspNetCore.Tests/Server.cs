using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>A real Kestrel on a free loopback port, with a verifier for each scheme, on a clock that stands until it is moved.</summary>
internal sealed class Server : IAsyncDisposable
{
    public const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    private static readonly Dictionary<string, WebhookScheme> Schemes = new()
    {
        ["orders"] = WebhookScheme.StandardWebhooks,
        ["stripe"] = WebhookScheme.Stripe,
        ["github"] = WebhookScheme.GitHub,
        ["slack"] = WebhookScheme.Slack,
        ["shopify"] = WebhookScheme.Shopify,
    };

    private readonly WebApplication _app;
    private readonly HttpProtocols _protocols;
    private readonly ErrorLog _log;

    private Server(WebApplication app, Setup setup, FakeTimeProvider time, ErrorLog log)
    {
        _app = app;
        _protocols = setup.Protocols;
        _log = log;
        Time = time;
        Client = Connect();
    }

    public FakeTimeProvider Time { get; }

    public HttpClient Client { get; }

    /// <summary>What was logged as an error.</summary>
    public string[] Errors => [.. _log.Entries.Where(entry => entry.Level == LogLevel.Error).Select(entry => entry.Text)];

    /// <summary>What this package logged.</summary>
    public string[] Said => [.. _log.Entries.Where(entry => entry.Category.StartsWith("Backend.Toolkit.", StringComparison.Ordinal)).Select(entry => $"{entry.Level}: {entry.Text}")];

    public Uri Address => new(_app.Urls.Single());

    public IServiceProvider Services => _app.Services;

    public long Held => Services.GetRequiredService<WebhookReceivingInForce>().Unverified.Held;

    /// <summary>Starts a server with <c>UseWebhookVerification</c>.</summary>
    public static async Task<Server> StartAsync(Action<WebApplication> map, Action<Setup>? configure = null)
    {
        var setup = new Setup();
        configure?.Invoke(setup);
        var time = new FakeTimeProvider(new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var log = new ErrorLog(setup.LogLevel);
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(log).SetMinimumLevel(setup.LogLevel);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = setup.Protocols));
        builder.Services.AddSingleton<TimeProvider>(time);
        foreach ((string name, WebhookScheme scheme) in Schemes)
        {
            builder.Services.AddWebhookVerifier(name, o => (o.Scheme, _) = (scheme, Add(o.Keys)));
            builder.Services.AddWebhookSigner(name, o => (o.Scheme, _) = (scheme, Add(o.Keys)));
        }

        builder.Services.AddWebhookReceiving(setup.Receiving ?? (static _ => { }));
        setup.Services?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        setup.Outside?.Invoke(app);
        if (setup.Use)
        {
            app.UseWebhookVerification();
        }

        map(app);
        await app.StartAsync().Soon();
        return new Server(app, setup, time, log);
    }

    public HttpClient Connect() => new(new SocketsHttpHandler { AutomaticDecompression = DecompressionMethods.None, AllowAutoRedirect = false })
    {
        BaseAddress = Address,
        Timeout = Eventually.Patience,
    };

    /// <summary>The headers of a message, as its sender makes them.</summary>
    public Dictionary<string, string> Sign(byte[] body, string verifier = "orders", string? id = "msg_1", DateTimeOffset? timestamp = null)
    {
        var headers = new Dictionary<string, string>();
        Services.GetRequiredKeyedService<WebhookSigner>(verifier).Sign(headers, static (to, name, value) => to[name] = value.ToString(), Schemes[verifier].IdHeader is null ? null : id, body, timestamp);
        return headers;
    }

    public HttpRequestMessage Request(string path, byte[] body, Dictionary<string, string> headers, string contentType = "application/octet-stream", bool chunked = false)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path)
        {
            Content = new ByteArrayContent(body) { Headers = { { "Content-Type", contentType } } },
            Version = _protocols == HttpProtocols.Http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (chunked)
        {
            request.Content = new ChunkedContent(body) { Headers = { { "Content-Type", contentType } } };
        }

        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value).Should().BeTrue();
        }

        return request;
    }

    /// <summary>Sends a signed message.</summary>
    public Task<Answer> SendAsync(string path, string body = "two apples", string verifier = "orders", string id = "msg_1", string contentType = "application/octet-stream")
    {
        byte[] bytes = Encoding.UTF8.GetBytes(body);
        return AskAsync(Request(path, bytes, Sign(bytes, verifier, id), contentType));
    }

    public async Task<Answer> AskAsync(HttpRequestMessage request, CancellationToken token = default)
    {
        using (request)
        {
            using HttpResponseMessage response = await Client.SendAsync(request, token);
            return await Answer.OfAsync(response);
        }
    }

    /// <summary>A connection on which requests are written by hand.</summary>
    public async Task<TcpClient> ConnectRawAsync()
    {
        var client = new TcpClient();
        await client.ConnectAsync(Address.Host, Address.Port);
        return client;
    }

    /// <summary>The start of a request, with the headers of a message, without the blank line.</summary>
    public static byte[] Head(string path, Dictionary<string, string> headers, string more = "") => Encoding.UTF8.GetBytes(
        $"POST {path} HTTP/1.1\r\nHost: here\r\n{string.Concat(headers.Select(header => $"{header.Key}: {header.Value}\r\n"))}{more}");

    /// <summary>Of the next answer on a connection.</summary>
    public static async Task<int> StatusAsync(TcpClient client)
    {
        byte[] start = new byte[12];
        await client.GetStream().ReadExactlyAsync(start).AsTask().Soon();
        return int.Parse(Encoding.ASCII.GetString(start)[^3..], System.Globalization.CultureInfo.InvariantCulture);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.StopAsync().Soon();
        await _app.DisposeAsync();
    }

    private static bool Add(IList<WebhookKey> keys)
    {
        keys.Add(new WebhookKey(Secret));
        return true;
    }

    internal sealed class Setup
    {
        public Action<WebhookReceivingOptions>? Receiving { get; set; }

        public Action<IServiceCollection>? Services { get; set; }

        public Action<WebApplication>? Outside { get; set; }

        public HttpProtocols Protocols { get; set; } = HttpProtocols.Http1;

        public LogLevel LogLevel { get; set; } = LogLevel.Warning;

        public bool Use { get; set; } = true;
    }

    private sealed class ChunkedContent(byte[] body) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            foreach (byte[] piece in body.Chunk(10_000))
            {
                await stream.WriteAsync(piece);
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    internal sealed record Entry(LogLevel Level, string Category, string Text);

    private sealed class ErrorLog(LogLevel least) : ILoggerProvider
    {
        public ConcurrentQueue<Entry> Entries { get; } = new();

        public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName, least);

        public void Dispose()
        {
        }

        private sealed class Logger(ErrorLog log, string category, LogLevel least) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state)
                where TState : notnull => null;

            public bool IsEnabled(LogLevel logLevel) => logLevel >= least;

            public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
                log.Entries.Enqueue(new Entry(logLevel, category, $"{formatter(state, exception)} {exception?.Message}".Trim()));
        }
    }
}
