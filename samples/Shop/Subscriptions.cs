using Backend.Toolkit.Webhooks.Delivery;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Shop;

/// <summary>
/// Who hears of what: the shop tells the customer of orders, which is said before the first order; payments, when it is in this process, tells the shop of charges, which is said once the shop's address is known. Addresses
/// may be new with each start: an endpoint that is there from an earlier one gets the new address and secret.
/// </summary>
internal sealed class Subscriptions(IServer server, IServiceProvider services, Neighbours neighbours, ShopDatabase database, WebhookEndpoints endpoints) : IHostedLifecycleService
{
    /// <summary>The shop has no sign-in, so there is one audience.</summary>
    public const string Audience = "customers";

    public Task StartAsync(CancellationToken cancellationToken) => database.OneByOneAsync(
        () => SubscribeAsync(endpoints, Audience, [new Uri(neighbours.Customer, Neighbours.Hook).AbsoluteUri], neighbours.CustomerSecret, cancellationToken), cancellationToken);

    public async Task StartedAsync(CancellationToken cancellationToken)
    {
        if (services.GetService<PaymentsService>() is { } payments)
        {
            string shop = server.Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First();
            await SubscribeAsync(payments.Endpoints, PaymentsService.Audience, [$"{shop}{PaymentsService.ShopHook}"], neighbours.PaymentsSecret, cancellationToken);
        }
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <param name="endpoints">Of whoever sends.</param>
    /// <param name="audience">Whose events they get.</param>
    /// <param name="urls">The first is for the audience's oldest endpoint, and so on; there are as many endpoints then, or more.</param>
    /// <param name="secret">Of all of them.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public static async Task SubscribeAsync(WebhookEndpoints endpoints, string audience, string[] urls, string secret, CancellationToken cancellationToken)
    {
        IReadOnlyList<WebhookEndpoint> former = await endpoints.ListAsync(audience, cancellationToken: cancellationToken);
        for (int i = 0; i < urls.Length; i++)
        {
            if (i < former.Count)
            {
                await endpoints.ChangeAsync(former[i].Id, urls[i], cancellationToken: cancellationToken);
                await endpoints.RotateSecretAsync(former[i].Id, TimeSpan.Zero, secret, cancellationToken);
            }
            else
            {
                await endpoints.CreateAsync(audience, urls[i], secret: secret, cancellationToken: cancellationToken);
            }
        }
    }
}
