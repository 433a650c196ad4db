using System.Net;
using Backend.Toolkit.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>A real service on a free port of the loopback interface.</summary>
internal sealed class Server : IAsyncDisposable
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(30);
    private readonly WebApplication _app;
    private readonly ErrorLog _errors;

    private Server(WebApplication app, ErrorLog errors)
    {
        (_app, _errors) = (app, errors);
        Address = new Uri(app.Urls.Single());
        Client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false }) { BaseAddress = Address, Timeout = Bound };
    }

    public Uri Address { get; }

    public HttpClient Client { get; }

    public IServiceProvider Services => _app.Services;

    /// <summary>What was logged as an error, each with its exception.</summary>
    public IReadOnlyCollection<string> Errors => _errors.Entries;

    public static async Task<Server> StartAsync(Action<WebApplication> map, Action<IServiceCollection>? add = null, Action<KestrelServerOptions>? kestrel = null)
    {
        var errors = new ErrorLog();
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(errors).SetMinimumLevel(LogLevel.Error);
        builder.WebHost.ConfigureKestrel(options =>
        {
            options.Listen(IPAddress.Loopback, 0);
            kestrel?.Invoke(options);
        });
        builder.Services.AddCursorPagination(o =>
        {
            o.Keys.Add(new CursorKey(1, [.. Enumerable.Range(0, 32).Select(i => (byte)i)]));
            o.DefaultSize = 3;
            o.MaxSize = 5;
        });
        add?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        map(app);
        await app.StartAsync().WaitAsync(Bound);
        return new Server(app, errors);
    }

    public async Task<Answer> GetAsync(string address, Action<HttpRequestMessage>? change = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, address);
        change?.Invoke(request);
        using HttpResponseMessage response = await Client.SendAsync(request);
        return new Answer(
            response.StatusCode,
            response.Headers.TryGetValues("Link", out IEnumerable<string>? links) ? string.Join("\n", links) : null,
            response.Content.Headers.ContentType?.ToString(),
            await response.Content.ReadAsStringAsync(),
            response.Headers.Select(header => header.Key).ToArray());
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.StopAsync().WaitAsync(Bound);
        await _app.DisposeAsync();
    }
}
