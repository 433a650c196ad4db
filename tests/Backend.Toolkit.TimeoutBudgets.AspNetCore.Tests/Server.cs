using System.Collections.Concurrent;
using System.Globalization;
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

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>A real Kestrel on a free loopback port, whose budgets run on a clock that stands until it is moved.</summary>
internal sealed class Server : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private readonly WebApplication _app;

    private Server(WebApplication app, FakeTimeProvider time, ConcurrentQueue<string> errors, ConcurrentQueue<int> statuses)
    {
        _app = app;
        Time = time;
        Errors = errors;
        Statuses = statuses;
        Client = new HttpClient { BaseAddress = new Uri(app.Urls.Single()), Timeout = Patience };
    }

    public FakeTimeProvider Time { get; }

    public HttpClient Client { get; }

    /// <summary>What was logged as an error.</summary>
    public ConcurrentQueue<string> Errors { get; }

    /// <summary>The status with which each request left the pipeline.</summary>
    public ConcurrentQueue<int> Statuses { get; }

    public IServiceProvider Services => _app.Services;

    /// <summary>Starts a server with <c>UseTimeoutBudgets</c>.</summary>
    public static Task<Server> StartAsync(Action<WebApplication> use, Action<IServiceCollection>? add = null, HttpProtocols protocols = HttpProtocols.Http1) =>
        StartBareAsync(
            app =>
            {
                app.UseTimeoutBudgets();
                use(app);
            },
            add,
            protocols);

    public static async Task<Server> StartBareAsync(Action<WebApplication> use, Action<IServiceCollection>? add = null, HttpProtocols protocols = HttpProtocols.Http1)
    {
        var time = new FakeTimeProvider();
        var errors = new ErrorLog();
        var statuses = new ConcurrentQueue<int>();
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(errors).SetMinimumLevel(LogLevel.Error);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(System.Net.IPAddress.Loopback, 0, listen => listen.Protocols = protocols));
        builder.Services.AddSingleton<TimeProvider>(time);
        add?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        app.Use(async (context, next) =>
        {
            try
            {
                await next(context);
            }
            finally
            {
                statuses.Enqueue(context.Response.StatusCode);
            }
        });
        use(app);
        await app.StartAsync().WaitAsync(Patience);
        return new Server(app, time, errors.Entries, statuses);
    }

    public Task<HttpResponseMessage> GetAsync(string path, string? budget = null, string header = "Timeout-Budget") =>
        SendAsync(new HttpRequestMessage(HttpMethod.Get, path), budget, header);

    public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, string? budget = null, string header = "Timeout-Budget")
    {
        if (budget is not null)
        {
            request.Headers.TryAddWithoutValidation(header, budget).Should().BeTrue();
        }

        return Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    /// <summary>A connection on which requests are written by hand.</summary>
    public async Task<TcpClient> ConnectAsync()
    {
        var client = new TcpClient();
        await client.ConnectAsync(Client.BaseAddress!.Host, Client.BaseAddress.Port);
        client.ReceiveTimeout = (int)Patience.TotalMilliseconds;
        return client;
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.StopAsync().WaitAsync(Patience);
        await _app.DisposeAsync();
    }
}

/// <summary>Bounded waits for what other threads do.</summary>
internal static class Eventually
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    public static void BeTrue(Func<bool> condition, string because) => SpinWait.SpinUntil(condition, Patience).Should().BeTrue(because);

    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(Patience);

    public static Task Soon(this Task task) => task.WaitAsync(Patience);

    /// <summary>A task that only the token ends.</summary>
    public static Task UntilCancelled(CancellationToken token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);

    /// <summary>Returns normally when the token fires, as a handler that is late would.</summary>
    public static async Task UntilLate(CancellationToken token) => await UntilCancelled(token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    /// <summary>Reads one response off a connection: all up to the end of a body of known length.</summary>
    public static async Task<string> ReadResponseAsync(this Stream stream)
    {
        var read = new List<byte>();
        byte[] one = new byte[1];
        while (await stream.ReadAsync(one).AsTask().Soon() == 1)
        {
            read.Add(one[0]);
            string text = Encoding.Latin1.GetString([.. read]);
            int end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
            if (end > 0)
            {
                int at = text.IndexOf("Content-Length: ", StringComparison.OrdinalIgnoreCase);
                int length = at < 0 ? 0 : int.Parse(text[(at + 16)..].Split('\r')[0], CultureInfo.InvariantCulture);
                if (text.Length >= end + 4 + length)
                {
                    return text;
                }
            }
        }

        return Encoding.Latin1.GetString([.. read]);
    }
}
