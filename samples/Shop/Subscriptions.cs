using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.Delivery;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Shop;

/// <summary>
/// Who hears of what, said once all addresses are known, which are new with each start: payments tells the shop of charges, the shop tells the customer of orders. An endpoint that is there from
/// an earlier start gets the new address and secret.
/// </summary>
internal sealed class Subscriptions(IServer server, PaymentsService payments, Customer customer, WebhookEndpoints endpoints) : IHostedLifecycleService
{
    /// <summary>The shop has no sign-in, so there is one audience.</summary>
    public const string Audience = "customers";

    /// <summary>What payments signs with, and the shop verifies with.</summary>
    public string PaymentsSecret { get; } = WebhookKey.NewSecret();

    public async Task StartedAsync(CancellationToken cancellationToken)
    {
        string shop = server.Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First();
        await SubscribeAsync(payments.Endpoints, PaymentsService.Audience, $"{shop}/webhooks/payments", PaymentsSecret, cancellationToken);
        await SubscribeAsync(endpoints, Audience, customer.Hook, customer.Secret, cancellationToken);
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private static async Task SubscribeAsync(WebhookEndpoints endpoints, string audience, string url, string secret, CancellationToken cancellationToken)
    {
        if ((await endpoints.ListAsync(audience, limit: 1, cancellationToken: cancellationToken)).SingleOrDefault() is { } former)
        {
            await endpoints.ChangeAsync(former.Id, url, cancellationToken: cancellationToken);
            await endpoints.RotateSecretAsync(former.Id, TimeSpan.Zero, secret, cancellationToken);
        }
        else
        {
            await endpoints.CreateAsync(audience, url, secret: secret, cancellationToken: cancellationToken);
        }
    }
}
