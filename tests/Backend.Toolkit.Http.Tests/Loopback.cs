using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Http.Tests;

/// <summary>A real server on a free port of the loopback, which counts its connections, and a client with a policy in real time.</summary>
internal sealed class Loopback : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly HttpClient _client;
    private readonly OutboundPolicy _policy;
    private int _open;
    private int _connections;
    private int _requests;

    private Loopback(HttpProtocols protocols, Func<int, HttpContext, Task> answer, Action<OutboundPolicyOptions>? set)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = protocols;
            listen.Use(next => connection => CountAsync(next, connection));
        }));
        _app = builder.Build();
        _app.Run(context => answer(Interlocked.Increment(ref _requests), context));
        _policy = new OutboundPolicy(Outbound.Options(set));
        _client = new HttpClient(new OutboundPolicyHandler(_policy) { InnerHandler = new SocketsHttpHandler() }) { Timeout = Timeout.InfiniteTimeSpan };
    }

    public int Open => Volatile.Read(ref _open);

    public int Connections => Volatile.Read(ref _connections);

    public int Requests => Volatile.Read(ref _requests);

    public Uri Url { get; private set; } = new("http://127.0.0.1/");

    public static async Task<Loopback> StartAsync(
        Func<int, HttpContext, Task> answer, Action<OutboundPolicyOptions>? set = null, HttpProtocols protocols = HttpProtocols.Http1)
    {
        var loopback = new Loopback(protocols, answer, set);
        await loopback._app.StartAsync();
        loopback.Url = new Uri(loopback._app.Urls.Single());
        return loopback;
    }

    public Task<HttpResponseMessage> SendAsync(string path = "/", HttpMethod? method = null, HttpContent? content = null, Version? version = null, CancellationToken token = default) =>
        _client.SendAsync(
            new HttpRequestMessage(method ?? HttpMethod.Get, new Uri(Url, path))
            {
                Content = content,
                Version = version ?? HttpVersion.Version11,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            },
            HttpCompletionOption.ResponseHeadersRead,
            token);

    public void DisposeClient() => _client.Dispose();

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        _policy.Dispose();
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(2), TimeProvider.System);
        await _app.StopAsync(limit.Token);
        await _app.DisposeAsync();
    }

    private async Task CountAsync(ConnectionDelegate next, ConnectionContext connection)
    {
        Interlocked.Increment(ref _connections);
        Interlocked.Increment(ref _open);
        try
        {
            await next(connection);
        }
        finally
        {
            Interlocked.Decrement(ref _open);
        }
    }
}
