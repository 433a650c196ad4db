using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Backend.Toolkit.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>A real Kestrel on a free loopback port, whose leases run on a clock that stands until it is moved. Requests of nobody have keys, unless a test says otherwise.</summary>
internal sealed class Server : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly HttpProtocols _protocols;

    private Server(WebApplication app, Setup setup, FakeTimeProvider time, TestStore store, ErrorLog errors)
    {
        _app = app;
        _protocols = setup.Protocols;
        Time = time;
        Store = store;
        Errors = errors.Entries;
        Client = Connect();
    }

    public FakeTimeProvider Time { get; }

    public TestStore Store { get; }

    public HttpClient Client { get; }

    /// <summary>What was logged as an error.</summary>
    public ConcurrentQueue<string> Errors { get; }

    public Uri Address => new(_app.Urls.Single());

    public IServiceProvider Services => _app.Services;

    /// <summary>Starts a server with <c>UseIdempotency</c>.</summary>
    public static async Task<Server> StartAsync(Action<WebApplication> map, Action<Setup>? configure = null)
    {
        var setup = new Setup();
        configure?.Invoke(setup);
        var time = new FakeTimeProvider(new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var store = new TestStore(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), time));
        var errors = new ErrorLog();
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(errors).SetMinimumLevel(LogLevel.Error);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = setup.Protocols));
        builder.Services.AddSingleton<TimeProvider>(time);
        builder.Services.AddSingleton<IIdempotencyStore>(store);
        builder.Services.AddIdempotency("orders", setup.Executor ?? (static _ => { }));
        builder.Services.AddHttpIdempotency(o =>
        {
            o.AllowAnonymous = true;
            setup.Http?.Invoke(o);
        });
        setup.Services?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        setup.Outside?.Invoke(app);
        if (setup.Use)
        {
            app.UseIdempotency();
        }

        map(app);
        await app.StartAsync().Soon();
        return new Server(app, setup, time, store, errors);
    }

    public HttpClient Connect() => new(new SocketsHttpHandler { AutomaticDecompression = DecompressionMethods.None, AllowAutoRedirect = false })
    {
        BaseAddress = Address,
        Timeout = Eventually.Patience,
    };

    public Task<HttpResponseMessage> PostAsync(string path, string? key = "key-1", string body = "two apples", CancellationToken token = default, HttpClient? client = null, Action<HttpRequestMessage>? change = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path)
        {
            Content = new StringContent(body, Encoding.UTF8, "text/plain"),
            Version = _protocols == HttpProtocols.Http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (key is not null)
        {
            request.Headers.TryAddWithoutValidation("Idempotency-Key", key).Should().BeTrue();
        }

        change?.Invoke(request);
        return (client ?? Client).SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token);
    }

    /// <summary>Status, body and all headers but those that differ from answer to answer.</summary>
    public async Task<Answer> AskAsync(string path, string? key = "key-1", string body = "two apples", Action<HttpRequestMessage>? change = null)
    {
        using HttpResponseMessage response = await PostAsync(path, key, body, change: change);
        return await Answer.OfAsync(response);
    }

    /// <summary>A connection on which requests are written by hand.</summary>
    public async Task<TcpClient> ConnectRawAsync()
    {
        var client = new TcpClient();
        await client.ConnectAsync(Address.Host, Address.Port);
        return client;
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.StopAsync().Soon();
        await _app.DisposeAsync();
    }

    internal sealed class Setup
    {
        public Action<IdempotencyOptions>? Executor { get; set; }

        public Action<HttpIdempotencyOptions>? Http { get; set; }

        public Action<IServiceCollection>? Services { get; set; }

        public Action<WebApplication>? Outside { get; set; }

        public HttpProtocols Protocols { get; set; } = HttpProtocols.Http1;

        public bool Use { get; set; } = true;
    }
}
