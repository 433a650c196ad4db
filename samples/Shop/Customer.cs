using System.Collections.Concurrent;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;

namespace Shop;

/// <summary>What a customer's endpoint has received, the newest hundred ids last, and whether it is told to fail.</summary>
internal sealed record Received(int Count, IReadOnlyList<string> Ids, bool IsBroken);

/// <summary>A customer who wants to hear of orders: an application of its own, on a free loopback port, that verifies what comes and takes each message once.</summary>
internal sealed class Customer : IHostedService, IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly ConcurrentQueue<string> _ids = new();
    private volatile bool _isBroken;

    public Customer()
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        builder.Services.AddRouting();
        builder.Services.AddWebhookReceiving();
        builder.Services.AddWebhookVerifier("shop", o => o.Keys.Add(new WebhookKey(Secret)));
        builder.Services.AddWebhookReplayGuard("shop");
        _app = builder.Build();
        _app.UseRouting();
        _app.UseWebhookVerification();
        _app.MapPost("/hook", (HttpContext context) =>
        {
            if (_isBroken)
            {
                return Results.StatusCode(StatusCodes.Status500InternalServerError);
            }

            _ids.Enqueue(context.GetVerifiedWebhook().Id!);
            return Results.Ok();
        }).VerifyWebhook("shop");
        _app.MapGet("/received", () => Results.Json(new Received(_ids.Count, [.. _ids.TakeLast(100)], _isBroken)));
        _app.MapPost("/broken", (bool value) => _isBroken = value);
    }

    public string Address => _app.Urls.First();

    public string Hook => $"{Address}/hook";

    /// <summary>Given to the shop together with the address of the hook.</summary>
    public string Secret { get; } = WebhookKey.NewSecret();

    public Task StartAsync(CancellationToken cancellationToken) => _app.StartAsync(cancellationToken);

    public Task StopAsync(CancellationToken cancellationToken) => _app.StopAsync(cancellationToken);

    public ValueTask DisposeAsync() => _app.DisposeAsync();
}
