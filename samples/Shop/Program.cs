// An order service that charges through a payments service, over HTTP, and stays up when payments does not.
//   dotnet run --project samples/Shop                 serves until Ctrl-C
//   dotnet run --project samples/Shop -- --tour       plays incidents, with the toolkit and without, and prints what users saw
//       --redis localhost:6379     plays a limit that two shops share there, too    --markdown FILE   writes the table into FILE
//   --export http://127.0.0.1:5080  prints all orders of a shop that runs, page by page, a line of JSON each
//   --redis localhost:6379         shares the clients' limits with other shops on that Redis
//   --postgres CONNECTION          keeps the orders, and the keys they were sent under, in a PostgreSQL that other shops may share
//   --only payments                runs payments alone, --only customer the customer; --payments URL and --customer URL are shops' arguments for these
//   --otlp http://127.0.0.1:4317   exports metrics and traces to that collector; alone: to that of OpenTelemetry's environment variables
//   --urls http://127.0.0.1:6000   another address    --data FOLDER   keeps the orders in FOLDER/orders.db    --plain true   without the toolkit
using Shop;

try
{
    if (TourOptions.From(args) is { } tour)
    {
        await Tour.RunAsync(tour);
        return 0;
    }

    Arguments.Check(args);
    IConfiguration arguments = new ConfigurationBuilder().AddCommandLine(args).Build();
    if (arguments["only"] is { } name)
    {
        await Alone.RunAsync(name, args, Console.Out);
        return 0;
    }

    if (arguments["export"] is { } address)
    {
        await Export.RunAsync(new Uri(address), Console.Out);
        return 0;
    }

    await using WebApplication shop = ShopApplication.Build(args);
    await shop.StartAsync();
    Neighbours neighbours = shop.Services.GetRequiredService<Neighbours>();
    Console.WriteLine($"shop      {shop.Urls.First()}  (POST /orders, GET /orders, GET /orders/ID, GET /state, GET /openapi/v1.json)");
    Console.WriteLine($"payments  {neighbours.Payments.OriginalString}  (POST /faults, GET /charges)");
    Console.WriteLine($"customer  {neighbours.Customer.OriginalString}  (GET /received, POST /broken?value=true)");
    Console.WriteLine("Ctrl-C stops it.");
    await shop.WaitForShutdownAsync();
    return 0;
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("Stopped.");
    return 130;
}
catch (Exception refused)
{
    Console.Error.WriteLine(refused.Message);
    return 1;
}
