// Evaluates expressions by the reference implementation of JSONata: a list of {expression, bindings} on stdin, a list of
// {value} or {error} on stdout. $parse and $uuid are what Step Functions adds to it.
const jsonata = require(process.argv[2] + "/node_modules/jsonata");

async function evaluated({ expression, bindings }) {
  const parsed = jsonata(expression);
  parsed.registerFunction("parse", JSON.parse);
  parsed.registerFunction("uuid", () => "00000000-0000-4000-8000-000000000000");
  try {
    const value = await parsed.evaluate(undefined, bindings);
    return value === undefined ? { error: "no result" } : { value };
  } catch (error) {
    return { error: error.code || String(error) };
  }
}

let text = "";
process.stdin.on("data", (part) => (text += part));
process.stdin.on("end", async () => {
  const asked = JSON.parse(text);
  process.stdout.write(JSON.stringify(await Promise.all(asked.map(evaluated))));
});
