#:project ../src/Backend.Toolkit.Webhooks/Backend.Toolkit.Webhooks.csproj
#:project ../src/Backend.Toolkit.Idempotency/Backend.Toolkit.Idempotency.csproj
#:package Microsoft.Extensions.DependencyInjection

// Webhooks: a payments service signs, a shop verifies on the raw bytes, keys change hands, and nothing is handled twice.
using System.Text;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Webhooks;
using Microsoft.Extensions.DependencyInjection;

// 1. Both ends in one container. Secrets come from configuration in real life: BindConfiguration on the same name.
string secret = WebhookKey.NewSecret();
var services = new ServiceCollection();
services.AddWebhookSigner("payments", o => o.Keys.Add(new WebhookKey(secret)));
services.AddWebhookVerifier("payments", o => o.Keys.Add(new WebhookKey(secret)));
services.AddWebhookReplayGuard("payments", o => o.MaxKeys = 10_000);

// What comes from others is signed in their way.
services.AddWebhookVerifier("stripe", o =>
{
    o.Scheme = WebhookScheme.Stripe;
    o.Keys.Add(new WebhookKey("whsec_from_the_dashboard_of_Stripe"));
});

await using ServiceProvider provider = services.BuildServiceProvider();
var signer = provider.GetRequiredKeyedService<WebhookSigner>("payments");
var verifier = provider.GetRequiredKeyedService<WebhookVerifier>("payments");
var guard = provider.GetRequiredKeyedService<WebhookReplayGuard>("payments");

byte[] body = Encoding.UTF8.GetBytes("""{"type":"payment.captured","amount":30}""");
var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
signer.Sign(headers, (to, name, value) => to[name] = value.ToString(), "msg_17", body);

WebhookVerification result = verifier.Verify(headers, (from, name) => from.GetValueOrDefault(name), body, out WebhookMessage message);
Console.WriteLine($"Signed, verified: {result}, {message.Id}");

// One byte is changed, and changed back.
body[^2] = (byte)'1';
Console.WriteLine($"One byte changed:     {verifier.Verify(headers, (from, name) => from.GetValueOrDefault(name), body)}");
body[^2] = (byte)'0';

// 2. A body that comes in pieces: hashed as it comes, refused by its headers before it comes.
using (WebhookSession session = verifier.Begin(headers, (from, name) => from.GetValueOrDefault(name)))
{
    foreach (byte[] piece in body.Chunk(16))
    {
        session.Append(piece);
    }

    Console.WriteLine($"In pieces:            {session.Finish()}");
}

using (WebhookSession session = verifier.Begin(new Dictionary<string, string>(), (from, name) => from.GetValueOrDefault(name)))
{
    Console.WriteLine($"Without headers:      {session.Finish()}, before a byte was read: {session.IsRefused}");
}

// 3. Handled once: reserve, handle, commit; what fails is released, and the sender's next attempt runs.
WebhookReservation reservation = await guard.ReserveAsync(message);
if (reservation.Status == WebhookReservationStatus.Reserved)
{
    await HandleAsync(body);
    await reservation.CommitAsync();
}

Console.WriteLine($"Delivered again:      {(await guard.ReserveAsync(message)).Status}");

// 4. On several nodes, the store that they share anyway. Memory stands here for AddPostgreSqlIdempotencyStore and its like.
IIdempotencyStore store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions());
var shared = new WebhookReplayGuard(new WebhookReplayGuardOptions { Name = "payments", Store = Over(store) });
reservation = await shared.ReserveAsync(message);
Console.WriteLine($"Over a shared store:  {reservation.Status}, then {(await shared.ReserveAsync(message)).Status}, released {await reservation.ReleaseAsync()}, {(await shared.ReserveAsync(message)).Status}");

static WebhookReplayStore Over(IIdempotencyStore store) => new()
{
    Reserve = async (request, token) =>
    {
        IdempotencyClaim claim = await store.BeginAsync(
            new IdempotencyClaimRequest { Key = new(request.Key.ToArray()), Fingerprint = default, Lease = request.Lease, Retention = request.KeepFor }, token);
        return claim.Status switch
        {
            IdempotencyClaimStatus.Started => new(WebhookReservationStatus.Reserved, claim.Fence),
            IdempotencyClaimStatus.Completed => new(WebhookReservationStatus.Committed),
            _ => new(WebhookReservationStatus.InProgress, LeaseLeft: claim.LeaseLeft),
        };
    },
    Commit = (key, fence, keepFor, token) => store.CompleteAsync(new(key.ToArray()), fence, IdempotencyOutcome.Tombstone(200), keepFor, cancellationToken: token),
    Release = (key, fence, token) => store.AbandonAsync(new(key.ToArray()), fence, token),
};

// 5. A new secret: the receiver learns it first, the sender signs with both, then the old one expires on both sides. Nothing is lost on the way.
var next = new WebhookKey(WebhookKey.NewSecret());
DateTimeOffset end = TimeProvider.System.GetUtcNow().AddDays(1);
var receiving = new WebhookVerifierOptions { Keys = { next, new WebhookKey(secret) { Expires = end } } };
var sending = new WebhookSignerOptions { Keys = { next, new WebhookKey(secret) { Expires = end } } };
verifier.Update(receiving);
Console.WriteLine($"Receiver has both:    {verifier.Verify(headers, (from, name) => from.GetValueOrDefault(name), body)}");
signer.Update(sending);
signer.Sign(headers, (to, name, value) => to[name] = value.ToString(), "msg_18", body);
Console.WriteLine($"Sender has both:      {headers["webhook-signature"].Split(' ').Length} signatures, {verifier.Verify(headers, (from, name) => from.GetValueOrDefault(name), body)}");

// 6. Another sender is another object.
var acme = new WebhookScheme
{
    Name = "Acme",
    SignatureHeader = "X-Acme-Signature",
    TimestampHeader = "X-Acme-Time",
    SignedContent = "{timestamp}\n{body}",
    SignaturePrefix = "hmac-sha256=",
};
var fromAcme = new WebhookSigner(new WebhookSignerOptions { Scheme = acme, Keys = { new WebhookKey("a secret of Acme's") } });
headers.Clear();
fromAcme.Sign(headers, (to, name, value) => to[name] = value.ToString(), null, body);
Console.WriteLine($"Acme signs:           {headers["X-Acme-Signature"][..20]}…");

static ValueTask HandleAsync(ReadOnlyMemory<byte> body)
{
    Console.WriteLine($"Handled: {body.Length} bytes");
    return ValueTask.CompletedTask;
}
