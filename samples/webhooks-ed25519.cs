#:project ../src/Backend.Toolkit.Webhooks.Ed25519/Backend.Toolkit.Webhooks.Ed25519.csproj
#:package Microsoft.Extensions.DependencyInjection

// Webhooks whose receivers can verify and cannot sign.
using System.Text;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.Ed25519;
using Microsoft.Extensions.DependencyInjection;

(string privateKey, string publicKey) = Ed25519WebhookKey.NewPair();
string secret = WebhookKey.NewSecret();
var services = new ServiceCollection();

// The sender, on its way from secrets to key pairs: it signs with both.
services.AddWebhookSigner("orders", o =>
{
    o.UseEd25519();
    o.Keys.Add(new WebhookKey(privateKey));
    o.Keys.Add(new WebhookKey(secret));
});

// A receiver that has the public key, and one that still has the secret.
services.AddWebhookVerifier("new", o =>
{
    o.UseEd25519();
    o.Keys.Add(new WebhookKey(publicKey));
});
services.AddWebhookVerifier("old", o => o.Keys.Add(new WebhookKey(secret)));

await using ServiceProvider provider = services.BuildServiceProvider();

byte[] body = Encoding.UTF8.GetBytes("""{"type":"order.created"}""");
var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
provider.GetRequiredKeyedService<WebhookSigner>("orders").Sign(headers, (to, name, value) => to[name] = value.ToString(), "msg_1", body);
Console.WriteLine($"Signatures: {string.Join(' ', headers["webhook-signature"].Split(' ').Select(one => one[..12] + "…"))}");
foreach (string receiver in new[] { "new", "old" })
{
    Console.WriteLine($"Receiver, {receiver}: {provider.GetRequiredKeyedService<WebhookVerifier>(receiver).Verify(headers, (from, name) => from.GetValueOrDefault(name), body)}");
}

// A receiver that tries to sign is stopped before it starts.
var forger = new WebhookSignerOptions { Name = "forger", Keys = { new WebhookKey(publicKey) } };
forger.UseEd25519();
Console.WriteLine($"Forger:           {forger.Problems().Single()}");
