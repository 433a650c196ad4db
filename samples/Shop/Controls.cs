namespace Shop;

/// <summary>What payments and the customer are told, and how they say they are, reached as whoever runs them would: by their addresses, with nothing of the toolkit in between.</summary>
internal sealed class Controls(IHttpClientFactory clients, Neighbours neighbours)
{
    /// <summary>Its handler neither asks a proxy nor begins traces: these calls are nobody's requests.</summary>
    public const string Client = "neighbours";

    /// <summary>As <see cref="PaymentsClient"/> has it. Known once payments has started.</summary>
    public Uri Payments => neighbours.Payments;

    /// <returns>What payments is told to do wrong; null when it does not say.</returns>
    public Task<Fault?> FaultAsync(CancellationToken cancellationToken) => AskAsync<Fault>(new Uri(Payments, "faults"), cancellationToken);

    /// <returns>Whether the customer is told to fail; null when it does not say.</returns>
    public async Task<bool?> IsCustomerBrokenAsync(CancellationToken cancellationToken) => (await AskAsync<CustomerTold>(new Uri($"{neighbours.Customer}broken"), cancellationToken))?.Broken;

    public Task<IResult> TellPaymentsAsync(Fault fault, CancellationToken cancellationToken) => TellAsync("Payments", new Uri(Payments, "faults"), JsonContent.Create(fault, options: Export.Json), cancellationToken);

    public Task<IResult> TellCustomerAsync(bool broken, CancellationToken cancellationToken) =>
        TellAsync("The customer", new Uri($"{neighbours.Customer}broken?value={(broken ? "true" : "false")}"), null, cancellationToken);

    private async Task<T?> AskAsync<T>(Uri address, CancellationToken cancellationToken)
        where T : class
    {
        try
        {
            return await clients.CreateClient(Client).GetFromJsonAsync<T>(address, Export.Json, cancellationToken);
        }
        catch (Exception)
        {
            // Whatever it says instead: that is shown as unknown, and no reason to stop.
            return null;
        }
    }

    private async Task<IResult> TellAsync(string who, Uri address, HttpContent? content, CancellationToken cancellationToken)
    {
        try
        {
            using HttpResponseMessage answer = await clients.CreateClient(Client).PostAsync(address, content, cancellationToken);
            return Results.Content(await answer.Content.ReadAsStringAsync(cancellationToken), answer.Content.Headers.ContentType?.ToString(), statusCode: (int)answer.StatusCode);
        }
        catch (Exception silent) when (silent is HttpRequestException || (silent is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return Results.Problem(statusCode: StatusCodes.Status502BadGateway, title: $"{who} does not answer.", detail: $"{who} must be reachable at {address.GetLeftPart(UriPartial.Authority)}, but is not. Start it again.");
        }
    }
}
